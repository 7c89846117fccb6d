"""Image shards held against their index, byte by byte and where asked picture by picture."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.arrays import MAGIC, array_shape, decode_array
from ldm.data.images import MAX_PIXELS, decode
from ldm.data.shards.files import LocalFiles, ShardFiles, unindexed
from ldm.data.shards.index import FILE_NAME, ROWS, VERSION, fits, index_shard
from ldm.data.shards.reader import name_before
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import file_hash, fingerprint, manifest_of


class Verified(NamedTuple):
    """How far a verification is, in samples, and what was found there, if anything."""

    done: int
    fault: str | None


def num_samples(files: ShardFiles) -> int | None:
    """How many samples the index tells of, None without one."""
    index = _index(files)
    return None if index is None else sum(shard["samples"] for shard in index["shards"])


def verify_shards(files: ShardFiles, *, decode_all: bool) -> Iterator[Verified]:
    """Look at every shard of a directory, and with ``decode_all`` at every sample's content.

    The size, the sha256 where it is recorded, whether the tar is whole, and whether each member
    lies where the index has it. Shards without an index are only looked at as tar files. Of those
    at a url the copies are looked at. Last, all of it is held against the manifest.
    """
    index = _index(files)
    if index is None:
        tars = sorted(Path(files.root).glob("*.tar"))
        shards: list[dict[str, Any]] = [{"file": path.name} for path in tars]
        rows = None
        if not shards:
            yield Verified(0, f"{files.root}: neither an index nor any *.tar")
    else:
        shards, rows = index["shards"], _rows(files, index)
        for name in unindexed(files.root, shards) if isinstance(files, LocalFiles) else ():
            yield Verified(0, f"{files.root}/{name}: not in the index")
        if rows is None:
            yield Verified(0, f"{files.root}/{ROWS}: missing, or not what {FILE_NAME} records")
    done = 0
    for shard in shards:
        expected = None if rows is None else rows[done : done + shard["samples"]]
        number = 0
        for number, fault in _faults(files, shard, expected, decode_all):
            yield Verified(done + number, fault)
        done += shard.get("samples", number)
        yield Verified(done, None)
    for fault in _manifest_faults(files, shards, done):
        yield Verified(done, fault)


def _manifest_faults(
    files: ShardFiles, shards: list[dict[str, Any]], num_samples: int
) -> Iterator[str]:
    """Where shards are others than those that the manifest, if there is one, was written for."""
    hashes = [shard.get("sha256", "") for shard in shards]
    try:
        found = files.json(MANIFEST)
        if found is None:
            if any(hashes):
                yield f"{files.root}/{MANIFEST}: missing"
            return
        facts = manifest_of(found, files.root, kind="shards").facts
    except ValueError as error:
        yield str(error)
        return
    where = f"{files.root}/{MANIFEST}"
    if facts.get("num_samples") != num_samples:
        yield f"{where}: {facts.get('num_samples')} samples, and {num_samples} are here"
    elif all(hashes) and facts.get("content") != fingerprint(hashes):
        yield f"{where}: it was written for shards of other content"


def _index(files: ShardFiles) -> dict[str, Any] | None:
    found = files.json(FILE_NAME)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    is_foreign = isinstance(files, LocalFiles) and not (files.root / MANIFEST).is_file()
    if is_foreign and unindexed(Path(files.root), found["shards"]):
        return None  # out of date: who opens them has it made again
    return found


def _rows(files: ShardFiles, index: dict[str, Any]) -> NDArray[Any] | None:
    try:
        with files.open(ROWS, None, index["rows"]) as opened:
            if file_hash(opened.name) != index["rows"]:
                return None
            rows: NDArray[Any] = np.load(opened.name, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError):
        return None
    return rows if fits(rows, index["shards"]) else None


def _faults(
    files: ShardFiles, shard: dict[str, Any], expected: NDArray[Any] | None, decode_all: bool
) -> Iterator[tuple[int, str | None]]:
    """The faults of a shard, with the number of its samples looked at."""
    where = f"{files.root}/{shard['file']}"
    try:
        file = files.open(shard["file"], shard.get("bytes"), shard.get("sha256", ""))
    except FileNotFoundError:
        yield 0, f"{where}: missing"
    except ValueError as error:  # where no such copy could be made
        yield 0, str(error)
    else:
        with file:
            yield from _faults_in(file, where, shard, expected, decode_all)


def _faults_in(
    file: BinaryIO,
    where: str,
    shard: dict[str, Any],
    expected: NDArray[Any] | None,
    decode_all: bool,
) -> Iterator[tuple[int, str | None]]:
    path = Path(file.name)
    size = path.stat().st_size
    if size != shard.get("bytes", size):
        yield 0, f"{where}: {size} bytes, and {shard['bytes']} in the index"
    elif shard.get("sha256") and file_hash(path) != shard["sha256"]:
        yield 0, f"{where}: other content than its sha256 in the index stands for"
    try:
        found = index_shard(path)
    except ValueError:
        yield 0, f"{where}: a truncated or damaged tar"
        return
    if expected is None:
        expected = found
    for number, row in enumerate(expected):
        places = ("image", "txt", "json")
        same = number < len(found) and all(
            np.array_equal(row[part], found[number][part]) for part in places
        )
        if not same:
            yield number, f"{where}, {_name(file, row)}: not where the index has it"
        elif decode_all:
            yield number, None
            if fault := _content_fault(file, row):
                yield number, f"{where}, {_name(file, row)}: {fault}"
    yield len(expected), None
    if len(found) > len(expected):
        yield len(expected), f"{where}: {len(found) - len(expected)} samples more than in the index"


def _name(file: BinaryIO, row: Any) -> str:
    name = name_before(file.fileno(), int(row["image"][0]))
    return f"a sample at byte {row['image'][0]}" if name is None else f"sample {name!r}"


def _content_fault(file: BinaryIO, row: Any) -> str | None:
    """Why a sample cannot be read, None where it can."""
    try:
        picture, text, meta = (_member(file, row[part]) for part in ("image", "txt", "json"))
        if picture.startswith(MAGIC):
            decode_array(picture, array_shape(picture)[2], MAX_PIXELS)
        else:
            decode(picture)
        text.decode()
        json.loads(meta or b"{}")
    except UnicodeDecodeError:
        return "caption or metadata that are not UTF-8"
    except json.JSONDecodeError:
        return "metadata that are not JSON"
    except ValueError as error:
        return str(error)
    return None


def _member(file: BinaryIO, span: Any) -> bytes:
    offset, size = span.tolist()
    if offset < 0:
        return b""
    file.seek(offset)
    return file.read(size)
