"""The index of image shards: where each sample's picture, captions and metadata lie in the tars.

``index.json`` is {"version", "rows": sha256 of index.npy, "shards": [{"file", "bytes", "sha256",
"samples"}]}, where "samples" counts and the sha256 of foreign shards is empty. ``index.npy`` has a
``ROW`` per sample in the order of the shards and is memory-mapped: opening costs the same for any
number of samples.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.tar import DamagedTar, walk
from ldm.manifest import atomic, file_hash, read_json, write_json

FILE_NAME, ROWS = "index.json", "index.npy"
VERSION = 2
# [offset in the shard, size in bytes] of each member, (-1, 0) where there is none; the picture's
# height and width in pixels, 0 where only its header tells; how many captions it has.
ROW = np.dtype(
    [
        *((part, "<i8", (2,)) for part in ("image", "txt", "json")),
        *((name, "<i4") for name in ("height", "width", "captions")),
    ]
)
PARTS = dict.fromkeys(("png", "jpg", "jpeg", "webp"), "image") | {
    "npy": "npy",  # a picture where there is no other
    "txt": "txt",
    "json": "json",
}


class Index(NamedTuple):
    """What lies in a directory of shards."""

    shards: list[dict[str, Any]]  # as in index.json
    rows: NDArray[Any]  # (N,) of ROW
    rows_hash: str


def index_shard(path: Path) -> NDArray[Any]:
    """The rows (N,) of one tar, by walking its headers; samples in order of first appearance.

    Members of a sample need not be adjacent. Ignored: members outside the allow-list, links, a
    second member of the same name, captions without a picture. ValueError if the tar is damaged.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with open(path, "rb") as tar:
            for member in walk(tar):
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if part := PARTS.get(extension.lower()):
                    sample = samples.setdefault(f"{folder}/{stem}", {})
                    sample.setdefault(part, (member.offset, member.size))
    except DamagedTar as error:
        raise ValueError(f"{path} is truncated or damaged; copy or make it anew.") from error
    for sample in samples.values():
        if "npy" in sample:
            sample.setdefault("image", sample["npy"])
    whole = [sample for sample in samples.values() if "image" in sample]
    rows = np.zeros(len(whole), ROW)
    rows["captions"] = 1
    for part in ("image", "txt", "json"):
        rows[part] = np.array([s.get(part, (-1, 0)) for s in whole], np.int64).reshape(-1, 2)
    return rows


def open_index(directory: Path) -> Index:
    """The index of a directory; made now, and kept where that is allowed, for foreign shards.

    ValueError where there is no shard, or one that does not have the size recorded.
    """
    path = directory / FILE_NAME
    found = read_json(path) if path.is_file() else None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        # A list is the index of an earlier version; anything else belongs to another program.
        return _build(directory, keep=found is None or isinstance(found, list))
    _check_sizes(directory, found["shards"])
    rows = np.load(directory / ROWS, mmap_mode="r", allow_pickle=False)
    if not fits(rows, found["shards"]):
        raise ValueError(
            f"{directory / ROWS} does not fit {path}; delete both, and they are made again."
        )
    return Index(found["shards"], rows, found["rows"])


def fits(rows: NDArray[Any], shards: list[dict[str, Any]]) -> bool:
    """Whether an array can be the rows of these shards."""
    return rows.dtype == ROW and len(rows) == sum(shard["samples"] for shard in shards)


def write_index(
    directory: Path, shards: list[dict[str, Any]], rows: Iterable[NDArray[Any]]
) -> None:
    """Write both files, each atomically, ``index.json`` last; ``rows`` shard by shard."""
    count = sum(shard["samples"] for shard in shards)
    header = {"descr": np.lib.format.dtype_to_descr(ROW), "fortran_order": False, "shape": (count,)}
    with atomic(directory / ROWS) as temporary:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for some in rows:
                file.write(some.tobytes())
        rows_hash = file_hash(temporary)
    write_json(directory / FILE_NAME, {"version": VERSION, "rows": rows_hash, "shards": shards})


def _build(directory: Path, keep: bool) -> Index:
    """Of shards that another tool wrote: without hashes, reading every byte would take hours."""
    shards, rows = [], [np.zeros(0, ROW)]
    for path in sorted(directory.glob("*.tar")):
        rows.append(index_shard(path))
        entry = {"file": path.name, "bytes": path.stat().st_size, "sha256": ""}
        shards.append({**entry, "samples": len(rows[-1])})
    if keep and shards:
        with suppress(PermissionError):
            write_index(directory, shards, rows)
            return open_index(directory)
    return Index(shards, np.concatenate(rows), "")


def _check_sizes(directory: Path, shards: list[dict[str, Any]]) -> None:
    for shard in shards:
        path = directory / shard["file"]
        found = path.stat().st_size if path.is_file() else None
        if found != shard["bytes"]:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(
                f"{path} {state}, but its index records {shard['bytes']} bytes: truncated or "
                f"changed. Copy it anew, or delete {directory} and prepare it again."
            )
