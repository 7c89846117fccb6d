"""Where the notes of a setting's pictures lie, and what a record says of the pictures."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ldm.apps.build import device_of
from ldm.apps.evaluations.measure import REFERENCE, Observer
from ldm.apps.evaluations.pixels import Pixels, compared_with, hash_of, judged
from ldm.apps.evaluations.setting import CommandSetting
from ldm.manifest import fingerprint, write_json
from ldm.metrics.frechet import Moments, moments
from ldm.metrics.notes import Notes, NotesInFiles
from ldm.metrics.protocol import versions


class NotedInFiles:
    """The ``Noted`` of `ldm evaluate`: notes in files below ``root``.

    `<set>-<what it is>/<observer>-<its protocol>/000012.safetensors`, and beside the observers
    set.json, which says what the set is. Another torch, kind of device, number of a CPU's threads
    or block has notes of its own, as it has other bits. Two commands may use one directory at the
    same time: what both make is the same.
    """

    def __init__(self, setting: CommandSetting, root: Path) -> None:
        self.root = root
        self._setting = setting
        self._directories: dict[str, Path] = {}
        self._hashes: dict[str, str] = {}

    def __call__(self, pictures: str, observer: Observer) -> Notes:
        statistics = self._setting.statistics
        if pictures == REFERENCE and statistics is not None:
            return statistics.notes(observer.name, observer.protocol)
        return self.in_files(pictures, observer)

    def in_files(self, pictures: str, observer: Observer) -> NotesInFiles:
        """The notes of pictures that are here, as far as they are made."""
        return NotesInFiles(
            self._directory(pictures) / f"{observer.name}-{fingerprint(observer.protocol)}",
            count=self._setting.count(pictures),
            block=self._setting.config.block,
        )

    def moments(self, pictures: str, observer: Observer, name: str) -> Moments:
        statistics = self._setting.statistics
        if pictures == REFERENCE and statistics is not None:
            return statistics.moments(observer.name, observer.protocol, name)
        return moments(self.in_files(pictures, observer).blocks(name))

    def keep(self, name: str, value: Any) -> None:
        write_json(self.root / f"{name}.json", value)

    def protocol(self, *pictures: str) -> dict[str, Any]:
        first, *others = pictures
        of, config = self._setting.pictures[first], self._setting.config
        found = judged(first, of.protocol, self._pixels(first), of.count, of.captions)
        for name in others:
            found |= self.compared_with(name)
        # A generated picture has a block and a device of its own.
        where = {"block": config.block, "device": device_of(config.accelerator).type}
        return {**found, "judging": where}

    def compared_with(self, name: str) -> dict[str, Any]:
        """What a record says of a set beside the one that is judged."""
        if name == REFERENCE and self._setting.statistics is not None:
            return self._setting.statistics.protocol
        of = self._setting.pictures[name]
        return compared_with(name, of.protocol, self._pixels(name), of.count)

    def _pixels(self, name: str) -> str:
        if name not in self._hashes:
            self._hashes[name] = hash_of(self(name, Pixels()), name)
        return self._hashes[name]

    def _directory(self, name: str) -> Path:
        if name not in self._directories:
            of, config = self._setting.pictures[name], self._setting.config
            what = {
                "pictures": of.identity,
                "count": of.count,
                "size_px": list(of.size_px),
                "block": config.block,
                "device": _device(config),
                "versions": versions(),
            }
            directory = self.root / f"{name}-{fingerprint(what)}"
            if not (directory / "set.json").is_file():
                write_json(directory / "set.json", what)
            self._directories[name] = directory
        return self._directories[name]


def _device(config: DictConfig) -> str:
    device = device_of(config.accelerator).type
    return f"cpu, threads: {torch.get_num_threads()}" if device == "cpu" else device
