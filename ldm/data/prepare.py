"""Preparing: any source of captioned pictures becomes checked image shards.

``directory`` receives the training split, ``directory/held_out`` the held-out one, each with its
manifest, and ``directory/bad_samples.jsonl`` every picture left out, with the reason.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ldm.data.shards import PREPARING, write_shards
from ldm.data.source import HELD_OUT, TRAIN, Bad, Sample, Source
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import Manifest, atomic, read_manifest

BAD_SAMPLES = "bad_samples.jsonl"


class Progress(NamedTuple):
    """How far a preparation is, over both splits; ``bad`` of the ``done`` were left out."""

    split: str
    done: int
    total: int
    bad: int


def prepared(source: Source, directory: str | Path, settings: Mapping[str, Any]) -> Manifest | None:
    """The manifest of an earlier, finished preparation with the same settings; None if none.

    ValueError naming the settings that differ when the directory was prepared otherwise.
    """
    directory = Path(directory)
    if not (directory / MANIFEST).is_file() or (directory / PREPARING).exists():
        return None
    remedy = "Choose another out=DIR."
    manifest = read_manifest(directory, kind="shards", remedy=remedy)
    wanted = _canonical({**settings, **source.settings()})
    _refuse_difference(directory, manifest.settings, wanted)
    return manifest


def prepare(
    source: Source,
    directory: str | Path,
    *,
    shard_bytes: int,
    max_bad_fraction: float,
    settings: Mapping[str, Any],
) -> Iterator[Progress]:
    """Write both splits of a source; yields after every picture, nothing if ``prepared`` already.

    Checks are made at the call, work at iteration. ``settings`` joins the source's own in the
    manifest. ValueError, with counts by reason, as soon as more than ``max_bad_fraction`` of all
    pictures are bad; nothing but the list of bad samples is left then.
    """
    directory = Path(directory)
    if prepared(source, directory, settings) is not None:
        return iter(())
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"out={directory} is a file; give the name of a directory.")
    if any(directory.glob("*.tar")) and not (directory / PREPARING).exists():
        raise ValueError(f"out={directory} holds shards of another tool; choose another out=DIR.")
    total = sum(source.splits().values())  # also finds an empty or missing input, now
    wanted = _canonical({**settings, **source.settings()})
    return _write(source, directory, total, shard_bytes, max_bad_fraction, wanted)


def _write(
    source: Source,
    directory: Path,
    total: int,
    shard_bytes: int,
    max_bad_fraction: float,
    settings: dict[str, Any],
) -> Iterator[Progress]:
    bad: list[tuple[str, Bad]] = []
    done = 0

    def good(split: str, facts: dict[str, Any]) -> Iterator[Sample]:
        nonlocal done
        own: Counter[str] = Counter()
        kept = 0
        for item in source.samples(split):
            done += 1
            if isinstance(item, Sample):
                kept += 1
                yield item
                continue
            bad.append((split, item))
            own[item.reason] += 1
            if len(bad) > max_bad_fraction * total:
                raise ValueError(_too_many_bad(bad, done, total, max_bad_fraction, directory))
        if not kept:
            raise ValueError(
                f"no usable picture is left for the split {split!r} ({_reasons(bad)}). Mend or "
                f"remove the pictures listed in {directory / BAD_SAMPLES}, or add more."
            )
        facts["bad"] = dict(sorted(own.items()))

    (directory / BAD_SAMPLES).unlink(missing_ok=True)
    held_out = directory / HELD_OUT
    _remove_unfinished(held_out)
    try:
        # The training split last: its manifest, the last file written, stands for the whole.
        for split, target in ((HELD_OUT, held_out), (TRAIN, directory)):
            facts: dict[str, Any] = {}
            for _ in write_shards(
                good(split, facts),
                target,
                shard_bytes=shard_bytes,
                settings={**settings, "split": split} if split == HELD_OUT else settings,
                facts=facts,
            ):
                yield Progress(split, done, total, len(bad))
    finally:
        if not (directory / MANIFEST).is_file():
            _remove_unfinished(held_out)
        if bad:
            _write_bad(directory / BAD_SAMPLES, bad)


def _remove_unfinished(held_out: Path) -> None:
    """Remove what an interrupted preparation left: ours only, by the split in its manifest."""
    if (held_out / MANIFEST).is_file():
        if read_manifest(held_out).settings.get("split") == HELD_OUT:
            shutil.rmtree(held_out)
    elif held_out.is_dir() and not any(held_out.iterdir()):
        held_out.rmdir()


def _write_bad(path: Path, bad: list[tuple[str, Bad]]) -> None:
    with atomic(path) as temporary:
        lines = [json.dumps({"split": split, **item._asdict()}) for split, item in bad]
        temporary.write_text("\n".join(lines) + "\n")


def _reasons(bad: list[tuple[str, Bad]]) -> str:
    counts = Counter(item.reason for _, item in bad)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common())


def _too_many_bad(
    bad: list[tuple[str, Bad]], done: int, total: int, allowed: float, directory: Path
) -> str:
    first = ", ".join(item.key for _, item in bad[:3])
    return (
        f"{len(bad)} of the first {done} pictures (of {total}) cannot be used: {_reasons(bad)}. "
        f"The first: {first}; all so far in {directory / BAD_SAMPLES}. Mend or remove them, or "
        f"allow more than data.max_bad_fraction={allowed:g}."
    )


def _canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they come back from JSON, so that they compare equal."""
    result: dict[str, Any] = json.loads(json.dumps(settings))
    return result


def _refuse_difference(
    directory: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    names = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
    if not names:
        return
    differences = "; ".join(
        "the input pictures have changed"
        if name == "input"
        else f"{name} was {found.get(name)!r} and is {wanted.get(name)!r}"
        for name in names
    )
    raise ValueError(
        f"{directory} was prepared differently: {differences}. Choose another out=DIR, or delete "
        "that directory to prepare it anew."
    )
