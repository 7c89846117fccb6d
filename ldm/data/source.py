"""What a source of captioned pictures is: the vocabulary between sources and image shards."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

TRAIN, HELD_OUT = "train", "held_out"


class Record(NamedTuple):
    """A captioned picture as its source holds it: no rule for pictures or captions applied yet."""

    key: str  # unique within its source, any text; decides the split where the source does not
    picture: bytes | NDArray[Any]  # a picture file as it is, or pixels (H, W, C)
    captions: tuple[str, ...]  # none: () where the source has no captions at all
    meta: dict[str, Any]  # JSON-able columns of the source: labels, licence, original sizes
    split: str | None = None  # TRAIN or HELD_OUT where the source itself has splits


class Bad(NamedTuple):
    """What was left out, and the short reason by which it is counted."""

    key: str  # the record's key, or the path a person knows it by
    reason: str
    is_filtered: bool = False  # left out on request: does not count against max_bad_fraction


class Part(NamedTuple):
    """A piece of a source that one process reads in one go; picklable."""

    where: Any  # what the source needs to find it again
    count: int | None  # type: ignore[assignment]  # records in it, good and bad; None where only reading tells


class Source(Protocol):
    """Where captioned pictures come from; picklable, read in parts by several processes."""

    def settings(self) -> dict[str, Any]:
        """What determines every record, JSON-able, with a fingerprint of any input on disk."""
        ...

    def parts(self) -> Sequence[Part]:
        """The whole source, cut in a way that depends on its content only; ValueError if empty."""
        ...

    def read(self, part: Part) -> Iterator[Record | Bad]:
        """The records of a part, the same at each call; what cannot be read comes as ``Bad``."""
        ...


class Sample(NamedTuple):
    """A captioned picture as shards hold it: checked, and ready to be trained on."""

    key: str  # unique within its shards; no dots (webdataset ends a key at the first dot)
    image: NDArray[Any]  # (H, W, C), sRGB uint8 for three channels
    captions: tuple[str, ...]  # at least one; ("",) for unconditional pictures
    meta: dict[str, Any]  # JSON-able: original_width, original_height and the source's columns

    @property
    def caption(self) -> str:
        """The first caption."""
        return self.captions[0]
