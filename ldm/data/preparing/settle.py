"""Between pieces and shards: where each sample goes is settled, and written down for people."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ldm.data import bad_samples
from ldm.data.preparing.pieces import SPLITS, read_piece
from ldm.data.preparing.selection import HELD_OUT, TRAIN, Selection, select
from ldm.data.preparing.terms import Terms, counts_of
from ldm.data.source import Bad
from ldm.manifest import atomic

DUPLICATES_FILE = "duplicates.jsonl"
_FILE = "selection.npz"


class Settled(NamedTuple):
    """What is to be joined."""

    split: NDArray[np.int8]  # (N,) by sample, as ``ldm.data.preparing.selection`` has it
    counts: NDArray[np.int64]  # (pieces,) samples in each
    sizes: NDArray[np.int64]  # (N,) bytes of each sample in its piece
    facts: dict[str, Any]  # for the manifest: what was left out, duplicates, licences
    held_out_facts: dict[str, Any]  # for that of the held-out split


def is_settled(work: Path) -> bool:
    """Whether everything was decided already."""
    return (work / _FILE).is_file()


def settled(work: Path) -> Settled:
    """What was decided."""
    with np.load(work / _FILE, allow_pickle=False) as found:
        facts, held_out_facts = json.loads(found["facts"].tobytes())
        return Settled(found["split"], found["counts"], found["sizes"], facts, held_out_facts)


def settle(
    work: Path,
    pieces: Path,
    num_pieces: int,
    directory: Path,
    *,
    duplicates: str | None,
    allowed: float,
) -> None:
    """Decide over the samples of all pieces, write both lists, and note the decision in ``work``.

    ValueError where too little is left, or more than the share ``allowed`` is unusable.
    """
    bad: list[Bad] = []
    columns = []
    for number in range(num_pieces):
        piece = read_piece(pieces, number)
        bad += piece.bad
        columns.append(piece.rows[["bytes", "name", "rank", "exact", "near", "split"]].copy())
    counts = np.array([len(column) for column in columns], np.int64)
    rows = np.concatenate(columns)
    total = len(rows) + len(bad)
    try:
        selection = select(rows, duplicates)
    except ValueError as error:
        bad_samples.write_bad(directory, bad)
        raise ValueError(f"{error} {_remedy(bad, directory)}") from error
    keys = _keys(pieces, counts, selection)
    bad += [Bad(keys[sample], "duplicate key") for sample in selection.repeated.tolist()]
    tally = bad_samples.Tally()
    tally.add(bad)
    tally.require_few(bad, directory, seen=total, total=total, allowed=allowed)
    bad_samples.write_bad(directory, bad)
    lines = [
        {
            "key": keys[duplicate.sample],
            "of": keys[duplicate.of],
            "kind": duplicate.kind,
            "split": SPLITS[selection.assigned[duplicate.sample]],
            "split_of": SPLITS[selection.assigned[duplicate.of]],
        }
        for duplicate in selection.duplicates
    ]
    bad_samples.write_lines(directory / DUPLICATES_FILE, lines)
    left_out = (selection.split != selection.assigned).sum()
    facts = {
        "bad": dict(sorted(tally.faults.items())),
        "filtered": dict(sorted(tally.filtered.items())),
        "duplicates": {
            "exact": sum(line["kind"] == "exact" for line in lines),
            "near": sum(line["kind"] == "near" for line in lines),
            "across_splits": sum(line["split"] != line["split_of"] for line in lines),
            "left_out": int(left_out),
        },
        **_terms(pieces, counts, selection.split, TRAIN),
    }
    held_out_facts = _terms(pieces, counts, selection.split, HELD_OUT)
    with atomic(work / _FILE) as temporary, open(temporary, "wb") as file:
        text = np.frombuffer(json.dumps([facts, held_out_facts]).encode(), np.uint8)
        np.savez(file, split=selection.split, counts=counts, sizes=rows["bytes"], facts=text)


def _terms(
    pieces: Path, counts: NDArray[np.int64], split: NDArray[np.int8], chosen: int
) -> dict[str, dict[str, int]]:
    """How many samples of a split come under which licence and from which source."""
    tally: Counter[Terms] = Counter()
    start = 0
    for number, count in enumerate(counts.tolist()):
        piece = read_piece(pieces, number)
        here = piece.terms_of[split[start : start + count] == chosen]
        for i, times in enumerate(np.bincount(here, minlength=len(piece.terms)).tolist()):
            tally[piece.terms[i]] += times
        start += count
    return counts_of(tally.items())


def _remedy(bad: list[Bad], directory: Path) -> str:
    """What helps where too little is left."""
    if not bad:
        return "(of no more). Add more pictures."
    counts = Counter(item.reason for item in bad)
    named = f"({bad_samples.reasons(counts)}). {directory / bad_samples.FILE_NAME} lists them:"
    if all(item.is_filtered for item in bad):
        return f"{named} all were left out on request, so ask for less, or add more pictures."
    return f"{named} mend those that are no good, or add more pictures."


def _keys(pieces: Path, counts: NDArray[np.int64], selection: Selection) -> dict[int, str]:
    """The keys of those samples that are to be named."""
    named = [*selection.repeated.tolist()]
    named += [sample for duplicate in selection.duplicates for sample in duplicate[:2]]
    wanted = np.unique(np.array(named, np.int64))
    keys: dict[int, str] = {}
    start = 0
    for number, count in enumerate(counts.tolist()):
        here = wanted[slice(*wanted.searchsorted([start, start + count]))]
        if len(here):
            found = read_piece(pieces, number).rows["key"][here - start]
            keys.update(zip(here.tolist(), (key.decode() for key in found), strict=True))
        start += count
    return keys
