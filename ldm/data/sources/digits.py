"""The source of real scans: the 1,797 handwritten digits that scikit-learn carries.

8 x 8 pixels each, white on black (Alpaydin and Kaynak 1998, test part of the UCI set); enlarged
so that the scan fills the frame.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ldm import random
from ldm.data.source import HELD_OUT, TRAIN, Bad, Part, Record
from ldm.ranges import Count, Fraction, Natural

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "a handwritten {word}",
    "the digit {word}",
    "a scan of the digit {digit}",
    "handwritten digit {digit}",
    "the number {word}, written by hand",
    "{article} {word}",
    "a picture of {article} {word}",
    "{word}",
)


def caption(digit: int, variant: int = 0) -> str:
    """The caption in phrasing ``variant`` (modulo the number of phrasings); 0 is canonical."""
    article = "an" if digit == 8 else "a"
    template = TEMPLATES[variant % len(TEMPLATES)]
    return template.format(word=WORDS[digit], digit=digit, article=article)


def parse(text: str) -> int:
    """The digit that a caption names, as a word or a figure; ValueError unless exactly one."""
    words = set(re.findall(r"[a-z]+|\d+", text.lower()))
    found = [digit for digit in range(10) if words & {WORDS[digit], str(digit)}]
    if len(found) != 1:
        raise ValueError(
            f"the caption {text!r} names {len(found)} digits; exactly one is needed, as in "
            f'"{caption(7)}".'
        )
    return found[0]


class DigitsSource:
    """Scanned digits with captions in several phrasings; meta holds digit.

    The held-out part has the same share of each digit, drawn by ``seed``.
    """

    def __init__(self, *, size_px: Count, held_out_fraction: Fraction, seed: Natural) -> None:
        if not 0.0 < held_out_fraction < 1.0:
            raise ValueError(
                f"data.held_out_fraction={held_out_fraction} must lie between 0 and 1, e.g. 0.2."
            )
        self.size_px = size_px
        self.held_out_fraction = held_out_fraction
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        return {
            "source": "digits",
            "size_px": self.size_px,
            "held_out_fraction": self.held_out_fraction,
            "seed": self.seed,
        }

    def parts(self) -> list[Part]:
        return [Part(split, len(numbers)) for split, numbers in self._numbers.items()]

    def read(self, part: Part) -> Iterator[Record | Bad]:
        scans, digits = self._scans
        numbers = self._numbers[part.where]
        key = random.stream(self.seed, "digits", "phrasing")
        variants = random.integers(key, torch.tensor(numbers), len(TEMPLATES)).tolist()
        for number, variant in zip(numbers, variants, strict=True):
            digit = int(digits[number])
            meta = {"original_width": 8, "original_height": 8, "digit": digit}
            image = self._enlarge(scans[number])
            yield Record(f"{number:04d}", image, (caption(digit, variant),), meta, part.where)

    @cached_property
    def _scans(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Grey values 0..16 of shape (1797, 8, 8), and the digits they show."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ValueError(
                "data=digits needs scikit-learn, which carries the scans. Install it with: "
                "pip install scikit-learn"
            ) from error
        bunch = load_digits()
        return bunch.images, bunch.target

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        digits = self._scans[1]
        held_out: list[int] = []
        for digit in range(10):
            own = np.flatnonzero(digits == digit)
            key = random.stream(self.seed, "digits", "held_out", digit)
            order = random.permutation(key, len(own), torch.arange(len(own))).numpy()
            count = min(len(own) - 1, max(1, round(len(own) * self.held_out_fraction)))
            held_out += own[order[:count]].tolist()
        rest = sorted(set(range(len(digits))) - set(held_out))
        return {TRAIN: rest, HELD_OUT: sorted(held_out)}

    def _enlarge(self, scan: NDArray[np.float64]) -> NDArray[np.uint8]:
        grey = Image.fromarray((scan * (255.0 / 16.0)).astype(np.float32))
        grey = grey.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        pixels = np.asarray(grey).round().clip(0, 255).astype(np.uint8)
        return np.repeat(pixels[..., None], 3, axis=2)
