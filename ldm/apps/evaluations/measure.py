"""What a metric is here: which notes it needs of which pictures, and the numbers that follow.

The functions beside this file that ``configs/metrics`` names are imported to check what they are
told, also where nothing is measured. So they import ``ldm.metrics``, which brings torchmetrics and
takes seconds, when they are called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

from ldm.apps.errors import UserError
from ldm.data.shards.reader import ImageShards
from ldm.metrics.notes import Notes, Rows
from ldm.text.clip import ClipTowers

if TYPE_CHECKING:
    from ldm.metrics.frechet import Moments
    from ldm.metrics.statistics import Statistics

SAMPLES = "samples"  # generated, or given, pictures: what is judged
REFERENCE = "reference"  # real pictures that they are compared with
RECONSTRUCTIONS = "reconstructions"  # the reference through the autoencoder
TRAINING = "training"  # what the model has learned from


class NotGiven(UserError):
    """A set of pictures that is not there, or has no captions; some numbers do without."""


class Block(NamedTuple):
    """Pictures of one block, as they are once saved: clipped and on the 256 levels of 8 bits."""

    images: Tensor  # (B, C, H, W) in [-1, 1]
    captions: Sequence[str]  # "" where there is none
    originals: Tensor | None = None  # likewise, what these are reconstructions of


class Observer(Protocol):
    """What is noted of every picture, such as its features in a frozen network."""

    name: str  # of its notes' directory, such as inception
    protocol: dict[str, Any]  # what a record must say of it; notes under another are not its own

    def __call__(self, block: Block) -> Rows:
        """The rows of one block; computed on the device of its images in float32."""
        ...


class Setting(Protocol):
    """What there is to be measured, known before any picture is made."""

    weights_dir: str
    allow_unknown_weights: bool
    statistics: "Statistics | None"  # the reference where it is a file of statistics, else None

    def count(self, pictures: str) -> int:
        """How many pictures a set has; NotGiven saying what to type where there is none such."""
        ...

    def size_px(self, pictures: str) -> tuple[int, int]:
        """Height and width of the pictures of a set."""
        ...

    def captions(self, pictures: str) -> Sequence[str]:
        """The captions of a set, one for each picture; NotGiven where it has none."""
        ...

    def towers(self) -> ClipTowers:
        """A copy of the model's own image and text tower; UserError where there is no such pair."""
        ...

    def shards(self) -> tuple[ImageShards, ImageShards]:
        """Training and held-out shards; UserError where the pictures are no shards of ours."""
        ...


class Noted(Protocol):
    """What has been noted of the sets of pictures."""

    def __call__(self, pictures: str, observer: Observer) -> Notes:
        """The notes that an observer took of a set."""
        ...

    def moments(self, pictures: str, observer: Observer, name: str) -> "Moments":
        """Mean and covariance of the rows ``name``, from the notes or a file of statistics."""
        ...

    def protocol(self, *pictures: str) -> dict[str, Any]:
        """What the record of a number on these sets must say of them."""
        ...

    def keep(self, name: str, value: Any) -> None:
        """Leave a JSON-able value for the report: ``name``.json beside notes that are in files."""
        ...


class Number(NamedTuple):
    """A measured number under the name by which it is known, with what belongs to its record."""

    name: str
    value: float
    protocol: dict[str, Any]


class Measure(NamedTuple):
    """One question about pictures, as a function of configs/metrics answers it to a ``Setting``.

    That function loads what is needed and raises UserError for what lacks, before any picture is
    made; ``observers`` says by set what is to be noted of its pictures, ``numbers`` follow.
    """

    observers: Mapping[str, Sequence[Observer]]
    numbers: Callable[[Noted], Iterator[Number]]
