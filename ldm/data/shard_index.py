"""The index of image shards: where each sample's picture, caption and metadata lie in the tars.

``index.json`` is a list with one entry per shard: {"file", "bytes", "sha256", "samples"}, where a
sample is {"key", "image": [offset, size], "txt": [offset, size], "json": [offset, size]}.
"""

import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ldm.manifest import atomic, file_hash

FILE_NAME = "index.json"
_PARTS = dict.fromkeys(("png", "jpg", "jpeg", "webp"), "image") | {"txt": "txt", "json": "json"}
_BLOCK = 512


def index_shard(path: Path, with_hash: bool = True) -> dict[str, Any]:
    """The index entry of one tar, by walking its headers; samples in order of first appearance.

    Members of a sample need not be adjacent. Ignored: members outside the allow-list, links, a
    second member of the same name, captions without a picture. ValueError if the tar is damaged.
    """
    remedy = f"{path} is truncated or damaged; copy or make it anew."
    size = path.stat().st_size
    samples: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                part = _PARTS.get(extension.lower())
                if part is None or not member.isreg() or member.issparse():
                    continue
                key = f"{folder}/{stem}" if folder else stem
                sample = samples.setdefault(key, {"key": key})
                sample.setdefault(part, [member.offset_data, member.size])
                if member.offset_data + member.size > size:
                    raise ValueError(remedy)
            end = tar.offset
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(remedy) from error
    # A tar cut between two members, or with a broken header, reads as a shorter one: only the
    # empty block that ends every tar tells the difference.
    with open(path, "rb") as file:
        file.seek(max(0, end - _BLOCK))
        if _BLOCK * b"\0" not in file.read(2 * _BLOCK):
            raise ValueError(remedy)
    return {
        "file": path.name,
        "bytes": size,
        "sha256": file_hash(path) if with_hash else "",
        "samples": [sample for sample in samples.values() if "image" in sample],
    }


def build_index(directory: Path) -> list[dict[str, Any]]:
    """The index of shards that another tool wrote, kept as ``index.json`` where that is allowed.

    Without hashes: reading every byte of a large data set would take hours.
    """
    shards = [index_shard(path, with_hash=False) for path in sorted(directory.glob("*.tar"))]
    if shards:
        with suppress(PermissionError):
            write_index(directory, shards)
    return shards


def write_index(directory: Path, shards: list[dict[str, Any]]) -> None:
    """Write ``index.json`` atomically, without the indentation that would double its size."""
    with atomic(directory / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(shards, separators=(",", ":")) + "\n")
