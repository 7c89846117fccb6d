"""Preparing: any source of captioned pictures becomes checked image shards.

``directory`` receives the training split, ``directory/held_out`` the held-out one, each with its
index and manifest, ``directory/bad_samples.jsonl`` every record left out, with the reason, and
``directory/duplicates.jsonl`` every picture that is there already.

Each part of the source becomes a piece (``ldm.data.preparing.pieces``), by any process; when all
are there, the samples of both splits are selected and the pieces joined into shards
(``ldm.data.preparing.join``). Both steps go on where they were stopped. What is written depends on
source and settings alone.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from ldm.data.bad_samples import Tally
from ldm.data.lock import alone
from ldm.data.preparing import selection
from ldm.data.preparing.join import Samples, join
from ldm.data.preparing.picture_rules import PictureRules
from ldm.data.preparing.pieces import is_finished, read_piece, write_piece
from ldm.data.preparing.processes import work_through
from ldm.data.preparing.settle import is_settled, settle, settled
from ldm.data.shards.files import PREPARING
from ldm.data.shards.index import open_index
from ldm.data.source import HELD_OUT, Part, Source
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import Manifest, read_json, read_manifest, write_json
from ldm.ranges import AtLeast, Fraction, Share

_PLAN = "plan.json"
_LOCK = ".lock"  # beside what may be removed; gone when nobody prepares here
_LEAST_SHARD_MB = 0.001
_ENOUGH = 1000  # records after which the share of bad ones is judged where the total is unknown


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """What is decided over all samples of a source; ValueError for what is not allowed.

    ``held_out_fraction``: by the hash of the key, where the source has no splits of its own; None
    where it has. ``duplicates``: of ``ldm.data.preparing.selection.DUPLICATES``.
    ``max_bad_fraction`` of the records may be unusable. ``shard_mb``: about how large a shard is.
    """

    held_out_fraction: Fraction | None
    duplicates: Literal["report", "exact", "near"] | None
    max_bad_fraction: Share
    shard_mb: Annotated[float, AtLeast(_LEAST_SHARD_MB)]

    def __post_init__(self) -> None:
        if self.held_out_fraction is not None and not 0.0 < self.held_out_fraction < 1.0:
            raise ValueError(
                f"data.held_out_fraction={self.held_out_fraction} must lie between 0 and 1, e.g. "
                "0.05."
            )
        if self.duplicates not in selection.DUPLICATES:
            raise ValueError(
                f"data.duplicates={self.duplicates!r} is not known; allowed: "
                f"{', '.join(filter(None, selection.DUPLICATES))}, null."
            )
        if not 0.0 <= self.max_bad_fraction <= 1.0:
            raise ValueError(
                f"data.max_bad_fraction={self.max_bad_fraction} must be a share from 0 to 1."
            )
        if not _LEAST_SHARD_MB <= self.shard_mb < math.inf:
            raise ValueError(
                f"data.shard_mb={self.shard_mb} must be at least {_LEAST_SHARD_MB}, e.g. 256."
            )

    def settings(self) -> dict[str, Any]:
        """What determines the result, JSON-able: not how many bad samples are put up with."""
        return {k: value for k, value in asdict(self).items() if k != "max_bad_fraction"}


class Progress(NamedTuple):
    """How far a step of the preparation is; ``bad`` counts records left out, filtered or not."""

    step: str
    done: int
    total: int | None
    bad: int


def prepared(
    source: Source, rules: PictureRules, preparing: Preparing, directory: str | Path
) -> Manifest | None:
    """The manifest of an earlier, finished preparation with the same settings; None if none.

    ValueError naming the settings that differ when the directory was prepared otherwise, and the
    shard that is missing or has another size.
    """
    directory = Path(directory)
    if not (directory / MANIFEST).is_file():
        return None
    manifest = read_manifest(directory, kind="shards", remedy="Choose another out=DIR.")
    if differing := _differences(manifest.settings, _settings(source, rules, preparing)):
        raise ValueError(
            f"{directory} was prepared differently: {'; '.join(differing.values())}. Choose "
            "another out=DIR, or delete that directory to prepare it anew."
        )
    for place in (directory, directory / HELD_OUT):
        open_index(place)
    return manifest


def prepare(
    source: Source,
    rules: PictureRules,
    preparing: Preparing,
    directory: str | Path,
    *,
    processes: int,
) -> Iterator[Progress]:
    """Write both splits of a source; nothing to do if ``prepared`` already.

    Checks are made at the call, work at iteration. ValueError, with counts by reason, as soon as
    more than the allowed share of records is bad; all that is finished is kept for the next time.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"out={directory} is a file; give the name of a directory.")
    if prepared(source, rules, preparing, directory) is not None:
        if (directory / PREPARING).exists():  # killed at the very last moment
            with _alone(directory):
                shutil.rmtree(directory / PREPARING)
        return iter(())
    settings = _settings(source, rules, preparing)
    parts = source.parts()  # also finds an empty or missing input, now
    _goes_on(directory, settings)
    return _run(source, parts, rules, preparing, directory, settings, processes)


def _goes_on(directory: Path, settings: Mapping[str, Any]) -> bool:
    """Whether what lies in a directory can be gone on with; ValueError where it must stay."""
    work = directory / PREPARING
    if not work.exists() and any(_tars(directory)):
        raise ValueError(f"out={directory} holds shards of another tool; choose another out=DIR.")
    if not (work / _PLAN).is_file():
        return False  # nothing, or killed while it was removed: nobody knows what pieces are of
    differing = _differences(read_json(work / _PLAN), settings)
    if {*differing} - {"input"}:
        raise ValueError(
            f"{directory} holds an unfinished preparation: {'; '.join(differing.values())}. "
            "Give the settings it began with, choose another out=DIR, or delete that directory."
        )
    return not differing  # of other pictures nothing can be used


def _run(
    source: Source,
    parts: Sequence[Part],
    rules: PictureRules,
    preparing: Preparing,
    directory: Path,
    settings: dict[str, Any],
    processes: int,
) -> Iterator[Progress]:
    work, allowed = directory / PREPARING, preparing.max_bad_fraction
    pieces = work / "pieces"
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        # Decided only now: before, the work may have been another's, who was still at it.
        if prepared(source, rules, preparing, directory) is not None:
            return
        if not _goes_on(directory, settings):
            _begin_anew(directory)
        pieces.mkdir(parents=True, exist_ok=True)
        write_json(work / _PLAN, settings)
        if not is_settled(work):
            write = partial(_write_piece, source, rules, preparing.held_out_fraction, pieces)
            yield from _write_pieces(write, parts, pieces, directory, allowed, processes)
            settle(
                work,
                pieces,
                len(parts),
                directory,
                duplicates=preparing.duplicates,
                allowed=allowed,
            )
        split, counts, sizes, facts, held_out_facts = settled(work)
        left_out, done = sum(facts["bad"].values()) + sum(facts["filtered"].values()), 0
        total = int((split != selection.LEFT_OUT).sum())
        # The training split last: its manifest, the last file written, stands for the whole.
        for chosen, target, own, more in (
            (selection.HELD_OUT, directory / HELD_OUT, {"split": HELD_OUT}, held_out_facts),
            (selection.TRAIN, directory, {}, facts),
        ):
            for written in join(
                Samples(pieces, counts, sizes),
                np.flatnonzero(split == chosen),
                target,
                notes=work / ("held_out" if own else "train"),
                shard_bytes=int(preparing.shard_mb * 1e6),
                settings={**settings, **own},
                facts=more,
                removing=not own,
            ):
                yield Progress("join", done + written, total, left_out)
            done += written
        shutil.rmtree(work)


def _write_piece(
    source: Source,
    rules: PictureRules,
    held_out_fraction: float | None,
    pieces: Path,
    numbered: tuple[int, Part],
) -> Iterator[int]:
    number, part = numbered
    return write_piece(source, part, rules, held_out_fraction, pieces, number)


def _write_pieces(
    write: Callable[[tuple[int, Part]], Iterator[int]],
    parts: Sequence[Part],
    pieces: Path,
    directory: Path,
    allowed: float,
    processes: int,
) -> Iterator[Progress]:
    """Make the pieces that are not there yet, watching the share of bad samples in their order."""
    counts = [part.count for part in parts]
    total = sum(count for count in counts if count is not None) if None not in counts else None
    todo = [(number, part) for number, part in enumerate(parts) if not is_finished(pieces, number)]
    bounds = [*(number for number, _ in todo), len(parts)]  # all before the next one is finished
    tally = Tally()
    seen = looked_at = 0

    def look(end: int) -> None:
        """Count the pieces up to ``end``; to stop here depends on nothing that comes after."""
        nonlocal seen, looked_at
        for number in range(looked_at, end):
            piece = read_piece(pieces, number)
            seen += len(piece.rows) + len(piece.bad)
            tally.add(piece.bad)
            if total is not None or seen >= _ENOUGH:
                listed = (bad for n in range(number + 1) for bad in read_piece(pieces, n).bad)
                tally.require_few(listed, directory, seen=seen, total=total, allowed=allowed)
        looked_at = end

    look(bounds[0])
    later = (read_piece(pieces, n) for n in range(looked_at, len(parts)) if is_finished(pieces, n))
    before = seen + sum(len(piece.rows) + len(piece.bad) for piece in later)
    for done in work_through(write, todo, processes):
        look(bounds[done.items])
        yield Progress("prepare", before + done.steps, total, tally.total())


def _settings(source: Source, rules: PictureRules, preparing: Preparing) -> dict[str, Any]:
    """All that determines the result, as it comes back from JSON, so that it compares equal."""
    settings = {**rules.settings(), **preparing.settings(), **source.settings()}
    result: dict[str, Any] = json.loads(json.dumps(settings))
    return result


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """What differs, each by its name, in words."""
    return {
        name: "the input pictures have changed"
        if name == "input"
        else f"{name} was {found.get(name)!r} and is {wanted.get(name)!r}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    }


def _tars(directory: Path) -> list[Path]:
    return [*directory.glob("*.tar"), *(directory / HELD_OUT).glob("*.tar")]


def _begin_anew(directory: Path) -> None:
    """Remove what an unfinished preparation has made so far."""
    for path in _tars(directory):
        path.unlink()
    if (directory / PREPARING).exists():
        shutil.rmtree(directory / PREPARING)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    lock = directory / _LOCK
    with alone(lock, f"{directory} is being prepared by another process."):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
