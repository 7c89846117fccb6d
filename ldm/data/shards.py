"""Image shards: webdataset's tar layout, written whole and read at random through an index.

A directory holds ``000000.tar ...`` (members KEY.png, KEY.txt, KEY.json side by side),
``index.json`` (where each member lies) and ``manifest.json``. Any img2dataset folder is one too:
its index is made by walking the tar headers. Reading trusts nothing: members outside the
allow-list (pictures, txt, json) are never opened, nothing is unpickled, no URL is followed.
"""

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldm.data.images import decode, encode_png
from ldm.data.shard_index import FILE_NAME, build_index, index_shard, write_index
from ldm.data.source import Sample
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import Manifest, fingerprint, read_json, read_manifest, write_manifest

PREPARING = ".preparing"  # a sub-folder that exists exactly while the directory is unfinished
REMEDY = "Make it with: ldm prepare data=... out={}"
_MAX_OPEN_FILES = 128


def write_shards(
    samples: Iterable[Sample],
    directory: str | Path,
    *,
    shard_bytes: int,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> Iterator[int]:
    """Write samples as shards of about ``shard_bytes``; yields the number written so far.

    Everything is written into a sub-folder and moved when all of it is there; index and manifest
    come last, so a directory with a manifest is whole. Equal samples give equal bytes. ``facts``
    is read at the end: the caller may fill it while the samples flow. An interrupted directory is
    begun anew; ValueError if it holds shards already, or if there is no sample at all.
    """
    directory = Path(directory)
    scratch = directory / PREPARING
    stale = sorted(directory.glob("*.tar"))
    if stale and not scratch.exists():
        raise ValueError(f"{directory} holds {len(stale)} shards already; choose another out=DIR.")
    made_directory = not directory.exists()
    for path in stale:
        path.unlink()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    finished = False
    try:
        content = hashlib.sha256()
        count = 0
        for count, sample in enumerate(_write_tars(samples, scratch, shard_bytes), start=1):
            for part in (sample.key, repr(sample.image.shape), sample.caption):
                content.update(part.encode() + b"\0")
            content.update(sample.image.tobytes())
            yield count
        if count == 0:
            raise ValueError(f"no usable picture for {directory}; see the reasons counted.")
        shards = [index_shard(path) for path in sorted(scratch.glob("*.tar"))]
        for shard in shards:
            with open(scratch / shard["file"], "rb") as file:
                os.fsync(file.fileno())
            os.replace(scratch / shard["file"], directory / shard["file"])
        write_index(directory, shards)
        facts = {
            "num_samples": count,
            "num_shards": len(shards),
            "content": content.hexdigest()[:16],
            **(facts or {}),
        }
        write_manifest(directory, kind="shards", settings=settings, facts=facts)
        finished = True
    finally:
        if not finished:  # interrupted: leave no half behind
            for path in directory.glob("*.tar"):
                path.unlink()
            for name in (FILE_NAME, MANIFEST):
                (directory / name).unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        if made_directory and not finished and not any(directory.iterdir()):
            directory.rmdir()


def _write_tars(samples: Iterable[Sample], folder: Path, shard_bytes: int) -> Iterator[Sample]:
    """Append samples to 000000.tar, 000001.tar ... in ``folder``, yielding each once written."""
    from webdataset.writer import TarWriter

    iterator = iter(samples)
    sample = next(iterator, None)
    number = 0
    seen: set[str] = set()
    while sample is not None:
        # A fixed owner and time: the bytes depend on the samples alone. Opened here, because
        # webdataset's own opening is disabled under WDS_SECURE.
        with (
            open(folder / f"{number:06d}.tar", "wb") as file,
            TarWriter(file, user="ldm", group="ldm", mtime=0, encoder=False) as writer,
        ):
            while sample is not None and file.tell() < shard_bytes:
                if "." in sample.key or sample.key in seen:
                    raise ValueError(f"key {sample.key!r} has a dot or comes a second time")
                seen.add(sample.key)
                writer.write(
                    {
                        "__key__": sample.key,
                        "png": encode_png(sample.image),
                        "txt": sample.caption.encode(),
                        "json": json.dumps(sample.meta, sort_keys=True).encode(),
                    }
                )
                yield sample
                sample = next(iterator, None)
        number += 1


class ImageShards:
    """Random access to a directory of image shards: ``shards[i]`` is a ``Sample``.

    Cheap to pickle and safe to fork: files are opened where they are read, and read by position.
    Pictures of foreign shards come in their own size. ValueError with a remedy when the directory
    is absent or unfinished, or when a shard does not have the size that its index records.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"no image shards at {root}. {REMEDY.format(root)}")
        if (self.root / PREPARING).exists():
            raise ValueError(
                f"{root} is unfinished: its preparation runs or was interrupted. Wait for it, or "
                "give the same ldm prepare command again."
            )
        if (self.root / FILE_NAME).is_file():
            shards = read_json(self.root / FILE_NAME)
            self._check_sizes(shards)
        else:
            shards = build_index(self.root)
            if not shards:
                raise ValueError(f"no *.tar in {root}. {REMEDY.format(root)}")
        if (self.root / MANIFEST).is_file():
            self.manifest = read_manifest(
                self.root, kind="shards", remedy=REMEDY.format("another directory")
            )
        else:
            self.manifest = _foreign_manifest(shards)
        self._files = [shard["file"] for shard in shards]
        self.keys: list[str] = [sample["key"] for shard in shards for sample in shard["samples"]]
        # Flat arrays, not a million dicts: worker processes share them without copying.
        counts = [len(shard["samples"]) for shard in shards]
        self._shard = np.repeat(np.arange(len(shards)), counts)
        spans = [
            [sample.get(part) or (-1, 0) for part in ("image", "txt", "json")]
            for shard in shards
            for sample in shard["samples"]
        ]
        self._spans = np.array(spans, dtype=np.int64).reshape(-1, 3, 2)
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> Sample:
        data = self._read(i, 0)
        try:
            image: NDArray[np.uint8] = decode(data)
        except ValueError as error:
            file = self._files[self._shard[i]]
            raise ValueError(
                f"{self.root / file}, sample {self.keys[i]!r}: {error}. The shard is damaged; "
                "prepare it again."
            ) from error
        meta = json.loads(self._read(i, 2) or b"{}")
        return Sample(self.keys[i], image, self.caption(i), meta)

    def caption(self, i: int) -> str:
        """The caption of one sample, without decoding its picture."""
        return self._read(i, 1).decode(errors="replace")

    @cached_property
    def captions(self) -> list[str]:
        """Every caption in order."""
        return [self.caption(i) for i in range(len(self))]

    @cached_property
    def metas(self) -> list[dict[str, Any]]:
        """Every sample's metadata in order, without decoding pictures."""
        return [json.loads(self._read(i, 2) or b"{}") for i in range(len(self))]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)

    def _read(self, i: int, part: int) -> bytes:
        offset, size = self._spans[i, part].tolist()
        if offset < 0:
            return b""
        shard = int(self._shard[i])
        if shard not in self._open:
            if len(self._open) >= _MAX_OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.root / self._files[shard], os.O_RDONLY)
        self._open.move_to_end(shard)
        data = os.pread(self._open[shard], size, offset)
        if len(data) != size:
            raise ValueError(f"{self.root / self._files[shard]} ends early; prepare it again.")
        return data

    def _check_sizes(self, shards: list[dict[str, Any]]) -> None:
        for shard in shards:
            path = self.root / shard["file"]
            found = path.stat().st_size if path.is_file() else None
            if found != shard["bytes"]:
                state = "is missing" if found is None else f"has {found} bytes"
                raise ValueError(
                    f"{path} {state}, but its index records {shard['bytes']} bytes: truncated or "
                    f"changed. Copy it anew, or delete {self.root} and prepare it again."
                )


def _foreign_manifest(shards: list[dict[str, Any]]) -> Manifest:
    """What can be said of shards that another tool wrote."""
    facts = {
        "num_samples": sum(len(shard["samples"]) for shard in shards),
        "num_shards": len(shards),
        "content": fingerprint(shards),
    }
    settings = {"source": "webdataset"}
    identity = fingerprint({"kind": "shards", "settings": settings, "facts": facts})
    return Manifest("shards", identity, settings, {}, facts, "another tool")
