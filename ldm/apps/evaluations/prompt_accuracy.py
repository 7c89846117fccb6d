"""Do drawn shapes show the prompted colour, shape, background and size?"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    REFERENCE,
    SAMPLES,
    Block,
    Measure,
    Noted,
    NotGiven,
    Number,
    Setting,
)
from ldm.metrics.notes import Rows, rows_of
from ldm.worlds.shapes import BACKGROUNDS, COLORS, SHAPES, SIZES, Shape, judge, parse

_WORDS = Shape(*map(tuple, (COLORS, SHAPES, BACKGROUNDS, SIZES)))  # type: ignore[arg-type]


class ShapeJudge:
    """Notes what the exact judge sees: of each attribute the place of its word."""

    name = "shapes"

    def __init__(self) -> None:
        self.protocol: dict[str, Any] = {"judge": "ldm.worlds.shapes.judge (analytic)"}

    def __call__(self, block: Block) -> Rows:
        return {"shown": torch.tensor([_coded(shape) for shape in judge(block.images.cpu())])}


def prompt_accuracy(setting: Setting) -> Measure:
    """The exact judge's verdict on samples, and on the reference as it is and reconstructed."""
    from ldm.metrics.prompt_accuracy import PromptAccuracy

    observer = ShapeJudge()
    asked = [_coded(parse(prompt)) for prompt in setting.captions(SAMPLES)]
    others, shown = {}, []
    with suppress(NotGiven):  # none was given, or it has no captions
        shown = [_coded(parse(caption)) for caption in setting.captions(REFERENCE)]
        others["real"] = REFERENCE
        setting.count(RECONSTRUCTIONS)  # which need an autoencoder
        others["reconstructed"] = RECONSTRUCTIONS

    def numbers(noted: Noted) -> Iterator[Number]:
        metric = alone(PromptAccuracy(Shape._fields))
        metric.update(rows_of(noted(SAMPLES, observer), "shown").tolist(), asked)
        for name, value in metric.compute().items():
            name = name.replace("prompt_accuracy_", "prompt_accuracy.")
            yield Number(name, float(value), noted.protocol(SAMPLES) | observer.protocol)
        for name, pictures in others.items():
            metric.reset()
            metric.update(rows_of(noted(pictures, observer), "shown").tolist(), shown)
            value = metric.compute()["prompt_accuracy"]
            protocol = noted.protocol(pictures) | observer.protocol
            yield Number(f"prompt_accuracy.{name}", float(value), protocol)

    return Measure({name: [observer] for name in (SAMPLES, *others.values())}, numbers)


def _coded(shape: Shape) -> list[int]:
    return [words.index(word) for words, word in zip(_WORDS, shape, strict=True)]
