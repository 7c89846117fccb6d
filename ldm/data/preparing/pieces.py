"""Pieces: what one process makes of one part of a source, whole or absent.

``000012.samples`` holds the samples one after the other as a tar file would, ``000012.npz`` what is
known of each and which records were bad. The latter is written last, so a piece with one is whole.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data.preparing.duplicates import difference_hash, exact_hash
from ldm.data.preparing.picture_rules import PictureRules, Prepared, key_hash
from ldm.data.preparing.terms import Terms, terms_of
from ldm.data.shards.index import ROW
from ldm.data.source import HELD_OUT, TRAIN, Bad, Part, Source
from ldm.manifest import atomic

SPLITS = (TRAIN, HELD_OUT)
# ``start`` and ``bytes`` are the sample's place in the piece, and ``row`` counts from the former;
# ``name`` is the hash by which keys are told apart, ``rank`` the one by which they are held out.
PIECE_ROW = np.dtype(
    [
        *((name, "<i8") for name in ("start", "bytes")),
        *((name, "<u8") for name in ("name", "rank", "exact", "near")),
        *(("row", ROW), ("key", "S64"), ("split", "i1")),
    ]
)


class Piece(NamedTuple):
    """What is known of a finished piece."""

    rows: NDArray[Any]  # (n,) of PIECE_ROW
    bad: list[Bad]
    terms: list[Terms]  # different ones
    terms_of: NDArray[np.int32]  # (n,) which of them are those of a sample


def samples_file(directory: Path, number: int) -> Path:
    """Where the samples of a piece lie."""
    return directory / f"{number:06d}.samples"


def is_finished(directory: Path, number: int) -> bool:
    """Whether a piece is whole."""
    return _facts_file(directory, number).is_file()


def read_piece(directory: Path, number: int) -> Piece:
    """What is known of a finished piece."""
    with np.load(_facts_file(directory, number), allow_pickle=False) as facts:
        bad = [Bad(*item) for item in json.loads(facts["bad"].tobytes())]
        terms = [Terms(*item) for item in json.loads(facts["terms"].tobytes())]
        return Piece(facts["rows"], bad, terms, facts["terms_of"])


def write_piece(
    source: Source,
    part: Part,
    rules: PictureRules,
    held_out_fraction: float | None,
    directory: Path,
    number: int,
) -> Iterator[int]:
    """Write the piece of a part; yields the number of records read so far, good or bad."""
    rows: list[tuple[Any, ...]] = []
    bad: list[Bad] = []
    terms: dict[Terms, int] = {}
    which: list[int] = []
    start = 0
    with atomic(samples_file(directory, number)) as temporary, open(temporary, "wb") as file:
        for count, record in enumerate(source.read(part), start=1):
            made = record if isinstance(record, Bad) else rules.apply(record)
            if isinstance(made, Bad):
                bad.append(made)
            else:
                assert not isinstance(record, Bad)
                data, row = _members(made)
                rank = key_hash(record.key)[:8]
                split = SPLITS.index(record.split or _split(rank, held_out_fraction))
                key = made.key.encode()
                hashes = (
                    int.from_bytes(hashlib.sha256(key).digest()[:8]),
                    int.from_bytes(rank),
                    exact_hash(made.pixels),
                    difference_hash(made.pixels),
                )
                rows.append((start, len(data), *hashes, row, key, split))
                which.append(terms.setdefault(terms_of(made.meta), len(terms)))
                start += file.write(data)
            yield count
    with atomic(_facts_file(directory, number)) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            rows=np.array(rows, PIECE_ROW),
            bad=_as_bytes(bad),
            terms=_as_bytes([*terms]),
            terms_of=np.array(which, np.int32),
        )


def _as_bytes(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _facts_file(directory: Path, number: int) -> Path:
    return directory / f"{number:06d}.npz"


def _split(rank: bytes, held_out_fraction: float | None) -> str:
    if held_out_fraction is None:
        raise ValueError(
            "this source has no splits of its own; give the share of pictures that is held out, "
            "e.g. data.held_out_fraction=0.05."
        )
    return HELD_OUT if int.from_bytes(rank) / 2.0**64 < held_out_fraction else TRAIN


def _members(sample: Prepared) -> tuple[bytes, tuple[Any, ...]]:
    """The sample as members of a tar, and its row in the index if the tar began with them."""
    meta = sample.meta
    if len(sample.captions) > 1:
        meta = {**meta, "captions": list(sample.captions)}
    file = io.BytesIO()
    spans = []
    for extension, data in (
        (sample.extension, sample.picture),
        ("txt", sample.captions[0].encode()),
        ("json", json.dumps(meta, sort_keys=True).encode()),
    ):
        # A fixed owner and time: the bytes depend on the sample alone.
        header = tarfile.TarInfo(f"{sample.key}.{extension}")
        header.size, header.mode, header.uname, header.gname = len(data), 0o444, "ldm", "ldm"
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        spans.append((file.tell(), len(data)))
        file.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
    height, width = sample.pixels.shape[:2]
    return file.getvalue(), (*spans, height, width, len(sample.captions))
