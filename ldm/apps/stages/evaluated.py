"""What evaluation during training notes of pictures, and the numbers that follow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build, device_of
from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    REFERENCE,
    SAMPLES,
    Block,
    Measure,
    Noted,
    Observer,
    Setting,
)
from ldm.apps.evaluations.pixels import Pixels, compared_with, hash_of, judged
from ldm.apps.stages.training_setting import TrainingSetting
from ldm.autoencoders.convolutional import Autoencoder
from ldm.callbacks.evaluation import Found, Piece, Records
from ldm.features.quantise import quantise
from ldm.manifest import fingerprint
from ldm.metrics.frechet import Moments, moments
from ldm.metrics.notes import NotesInMemory, Rows, blocks_of
from ldm.metrics.protocol import record

_PIXELS = Pixels()

Draw = Callable[[Sequence[int]], Tensor]
"""Images (B, C, H, W) in [-1, 1] of some pictures of a set, by their numbers."""


class Evaluated:
    """The sets of pictures of a stage, what the measures note of them, and the numbers.

    ``draw`` makes the samples as ``drawn`` (part of a protocol) says; without it the autoencoder
    is what learns, and otherwise it does not change.
    """

    def __init__(
        self,
        config: DictConfig,
        setting: TrainingSetting,
        autoencoder: Autoencoder,
        device: Callable[[], torch.device],
        *,
        made_by: Mapping[str, Any],
        draw: Draw | None = None,
        drawn: Mapping[str, Any] | None = None,
    ) -> None:
        self.setting, self.autoencoder, self.device, self.draw = setting, autoencoder, device, draw
        self.measures = list(measures(config, setting))
        self._blocks = partial(blocks_of, block=config.evaluation.block)
        observed: dict[str, dict[str, Observer]] = {}
        for measure in self.measures:
            for pictures, observers in measure.observers.items():
                for observer in observers:
                    observed.setdefault(pictures, {})[_key(observer)] = observer
        for each in observed.values():
            each[_key(_PIXELS)] = _PIXELS
        self._observed = observed
        learned = SAMPLES if draw is not None else RECONSTRUCTIONS
        self.lasting = [p for p in self._pieces() if p[0] != learned]
        self.changing = [p for p in self._pieces() if p[0] == learned]
        made = {
            "weights": "raw" if config.ema_decay is None else "averaged",
            # As `ldm evaluate` draws them, where nothing is said.
            "precision": None if config.precision == "32-true" else config.precision,
            "device": device_of(config.accelerator).type,
            **made_by,
        }
        self._judging = {"block": config.evaluation.block, "device": made["device"]}
        originals = {"originals": setting.reference} if setting.reference else {}
        self._protocols = {
            REFERENCE: setting.reference,
            RECONSTRUCTIONS: {**originals, **made, "latent": "posterior mode"},
            SAMPLES: {**made, **(drawn or {})},
        }

    def note(self, piece: Piece) -> dict[str, Rows]:
        """What all observers note of a block of pictures, by their keys."""
        pictures, number = piece
        rows = self._blocks(self.setting.count(pictures))[number]
        block = self._block(pictures, rows)
        with torch.autocast(block.images.device.type, enabled=False):
            found = {key: observer(block) for key, observer in self._observed[pictures].items()}
        return {
            key: {name: rows.detach().cpu() for name, rows in each.items()}
            for key, each in found.items()
        }

    def conclude(self, found: Found) -> Records:
        """The records of all measures, under names that carry the number of pictures."""
        noted: Noted = _Noted(found, self._protocols, self._judging, self.setting)
        return {
            _named(number.name, number.protocol.get("n")): record(number.value, **number.protocol)
            for measure in self.measures
            for number in measure.numbers(noted)
        }

    def _pieces(self) -> Iterator[Piece]:
        for pictures in self._observed:
            for number in range(len(self._blocks(self.setting.count(pictures)))):
                yield pictures, number

    def _block(self, pictures: str, rows: Sequence[int]) -> Block:
        captions = [self.setting.words(pictures)[i] for i in rows]
        if pictures == SAMPLES:
            assert self.draw is not None
            return Block(quantise(self.draw(rows)), captions)
        originals = self.setting.originals(rows).to(self.device())
        if pictures == REFERENCE:
            return Block(quantise(originals), captions)
        model = self.autoencoder.to(self.device())
        code = model.encode(originals.to(model.last_layer.dtype))
        made = model.decode(model.regularizer.mode(code))
        return Block(quantise(made), captions, quantise(originals))


@dataclass(frozen=True)
class _Noted:
    """Rows in memory as a measure is given them."""

    found: Found
    protocols: Mapping[str, Mapping[str, Any]]
    judging: Mapping[str, Any]
    setting: TrainingSetting

    def __call__(self, pictures: str, observer: Observer) -> NotesInMemory:
        key = _key(observer)
        return NotesInMemory(
            {number: rows[key] for (name, number), rows in self.found.items() if name == pictures}
        )

    def moments(self, pictures: str, observer: Observer, name: str) -> Moments:
        return moments(self(pictures, observer).blocks(name))

    def keep(self, name: str, value: Any) -> None:
        """Not kept: it would be of one step among many."""

    def protocol(self, *pictures: str) -> dict[str, Any]:
        first, *others = pictures
        said = judged(first, *self._about(first), self.setting.words(first))
        for name in others:
            said |= compared_with(name, *self._about(name))
        return {**said, "judging": dict(self.judging)}

    def _about(self, pictures: str) -> tuple[Mapping[str, Any], str, int]:
        notes = self(pictures, _PIXELS)
        return self.protocols[pictures], hash_of(notes, pictures), notes.count


def measures(config: DictConfig, setting: Setting) -> Iterator[Measure]:
    """Those of metrics=; UserError naming the one that lacks something, and what."""
    for name, node in config.metrics.items():
        try:
            yield build(node)(setting)
        except ValueError as error:
            raise UserError(f"metrics={name}: {error}") from error


def _key(observer: Observer) -> str:
    """Equal for observers that note the same."""
    return f"{observer.name}-{fingerprint(observer.protocol)}"


def _named(name: str, count: int | None) -> str:
    """A number's name with the number of pictures, once: these are few, and named for it."""
    return name if count is None or name.endswith(f"-{count}") else f"{name}-{count}"
