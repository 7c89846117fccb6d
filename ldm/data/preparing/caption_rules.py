"""Captions as shards may hold them: text on one line, of an allowed length."""

from typing import Any, NamedTuple


class CaptionRules(NamedTuple):
    """The length, in characters, that a caption must have; None for any."""

    min_chars: int
    max_chars: int | None

    def require_possible(self) -> None:
        """ValueError where no caption could have such a length."""
        if self.min_chars < 0 or (self.max_chars is not None and self.max_chars < self.min_chars):
            raise ValueError(
                f"data.min_caption_chars={self.min_chars} must be at least 0, and "
                f"data.max_caption_chars={self.max_chars} no less than that, or null."
            )

    def apply(self, captions: tuple[Any, ...]) -> tuple[tuple[str, ...], str | None, bool]:
        """The usable captions with white space made single; else why there is none, and by filter.

        A picture of a source without captions has the caption "".
        """
        if not captions:
            return ("",), None, False
        good, faults = [], []
        for caption in captions:
            fault, is_filtered = self._fault(caption)
            if fault is None:
                good.append(" ".join(caption.split()))
            else:
                faults.append((fault, is_filtered))
        return (tuple(good), None, False) if good else ((), *faults[0])

    def _fault(self, caption: Any) -> tuple[str | None, bool]:
        if not isinstance(caption, str):
            return "missing caption", False
        if "\0" in caption:
            return "NUL in caption", False
        if any("\ud800" <= character <= "\udfff" for character in caption):
            return "caption is not UTF-8", False
        length = len(" ".join(caption.split()))
        if not length:
            return "empty caption", False
        if length < self.min_chars:
            return f"caption below data.min_caption_chars={self.min_chars}", True
        if self.max_chars is not None and length > self.max_chars:
            return f"caption above data.max_caption_chars={self.max_chars}", True
        return None, False
