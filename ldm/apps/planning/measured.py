"""What steps on this machine took, apart from how that is found: no heavy import here."""

from dataclasses import dataclass

from ldm.apps.report.numbers import size_in_words


@dataclass(frozen=True)
class Measured:
    """What a step of one pass took on this machine's device."""

    device: str
    images: int
    steps: int
    seconds: float
    memory: float | None  # bytes at the peak, on a GPU

    def __str__(self) -> str:
        peak = "" if self.memory is None else f", {size_in_words(self.memory)} at the peak"
        return (
            f"{self.device}: {self.images / self.seconds:,.1f} images/s over {self.steps} steps of "
            f"{self.images}, {self.seconds:.3g} s each{peak}"
        )
