"""What observers note of every set of pictures: which blocks are left, and who does them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from math import inf
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build, device_of
from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    REFERENCE,
    SAMPLES,
    TRAINING,
    Block,
    Measure,
    Observer,
)
from ldm.apps.evaluations.noted import NotedInFiles
from ldm.apps.evaluations.pixels import Pixels
from ldm.apps.evaluations.setting import CommandSetting
from ldm.apps.processes import together
from ldm.apps.progress import Bar
from ldm.manifest import fingerprint
from ldm.metrics.notes import blocks_of

SETS = (SAMPLES, REFERENCE, RECONSTRUCTIONS, TRAINING)  # in the order in which they are noted


def measures_of(config: DictConfig, setting: CommandSetting) -> list[Measure]:
    """What is to be measured; UserError for what a measure lacks."""
    return [build(node)(setting) for node in config.metrics.values()]


def note(setting: CommandSetting, noted: NotedInFiles, measures: Sequence[Measure]) -> None:
    """Take the notes that the measures need and that are not there, behind a bar for each set.

    Block b is done by process b mod devices, all of it; what is noted does not depend on how many
    there are. Killed at any moment, the same goes on with the blocks that are missing.
    """
    left = _Left(setting, noted, measures)
    totals = {name: left.pictures(name) for name in left.observers}
    if not any(totals.values()):
        return
    device, count = device_of(setting.config.accelerator).type, int(setting.config.devices)
    if count == 1:
        events = _progress(left.work(0, 1))
    else:
        arguments = (setting, noted.root, count)
        done = together(
            _share,
            arguments,
            device=device,
            threads=torch.get_num_threads(),  # as in one process: the same bits
            count=count,
            progress=lambda: {name: totals[name] - left.pictures(name) for name in totals},
            preload=__name__,
        )
        events = (_current(each, totals) for each in done)
    _show(events, totals)


class _Left:
    """What is left to be noted."""

    def __init__(
        self, setting: CommandSetting, noted: NotedInFiles, measures: Sequence[Measure]
    ) -> None:
        self._setting, self._noted = setting, noted
        self.observers = {name: _observers(name, setting, measures) for name in SETS}
        self.observers = {name: each for name, each in self.observers.items() if each}
        if setting.statistics is not None:  # has been noted in its own time
            self.observers.pop(REFERENCE, None)
        if setting.pictures.builds_statistics:
            self.observers = {REFERENCE: self.observers[REFERENCE]}

    def pictures(self, name: str) -> int:
        """How many pictures of a set lie in blocks that are not finished."""
        return sum(len(rows) for _, rows, _ in self._blocks(name))

    def work(self, rank: int, count: int) -> Iterator[tuple[str, int]]:
        """Do the share of one of ``count`` processes; yields set and pictures of each block."""
        device = device_of(self._setting.config.accelerator)
        for name in self.observers:
            pictures = self._setting.pictures[name]
            for number, rows, lacking in self._blocks(name):
                if number % count != rank:
                    continue
                block = _on(device, pictures.block(rows))
                for observer in lacking:
                    with torch.no_grad():
                        found = observer(block)
                    self._noted.in_files(name, observer).write(number, found)
                yield name, len(rows)

    def _blocks(self, name: str) -> Iterator[tuple[int, range, list[Observer]]]:
        """Number and pictures of each block of a set with something left, and who lacks notes."""
        pictures = self._setting.pictures[name]
        notes = [(o, self._noted.in_files(name, o)) for o in self.observers[name]]
        for number, rows in enumerate(blocks_of(pictures.count, self._setting.config.block)):
            # What is made again is noted again, as what somebody has changed.
            since = pictures.changed(rows) if pictures.is_kept(rows) else inf
            if lacking := [o for o, taken in notes if not taken.is_noted(number, since)]:
                yield number, rows, lacking


def _observers(name: str, setting: CommandSetting, measures: Sequence[Measure]) -> list[Observer]:
    """All that is noted of a set, once each; with its pixels, by which a record knows it."""
    asked = [observer for m in measures for observer in m.observers.get(name, ())]
    is_wanted = asked or (name == SAMPLES and setting.pictures.keeps_samples)
    every: list[Observer] = [*asked, Pixels()]
    found = {(o.name, fingerprint(o.protocol)): o for o in every}
    return list(found.values()) if is_wanted else []


def _on(device: torch.device, block: Block) -> Block:
    def moved(images: Tensor | None) -> Tensor | None:
        return None if images is None else images.to(device)

    return Block(block.images.to(device), block.captions, moved(block.originals))


def _share(rank: int, setting: CommandSetting, root: Path, count: int) -> None:
    """What one of several processes does: as the first, but for what that has said already."""
    with redirect_stdout(StringIO()):
        measures = measures_of(setting.config, setting)
    for _ in _Left(setting, NotedInFiles(setting, root), measures).work(rank, count):
        pass


def _progress(work: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Set and pictures done of it."""
    done: dict[str, int] = {}
    for name, count in work:
        done[name] = done.get(name, 0) + count
        yield name, done[name]


def _current(done: Mapping[str, int], totals: Mapping[str, int]) -> tuple[str, int]:
    """The first set that is not finished, or the last, and how many of its pictures are done."""
    for name, total in totals.items():
        if done[name] < total:
            break
    return name, done[name]


def _show(events: Iterator[tuple[str, int]], totals: Mapping[str, int]) -> None:
    bar: Bar | None = None
    try:
        for name, done in events:
            title = f"evaluate ({name})"
            if bar is None or bar.name != title:
                if bar is not None:
                    bar.close()
                bar = Bar(title, totals[name])
            bar.update(done)
    finally:
        if bar is not None:
            bar.close()
