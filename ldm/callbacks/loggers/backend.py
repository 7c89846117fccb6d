"""What a program that shows a run must do; it hears of nothing but rows and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ldm.callbacks.rows import Row


@dataclass(frozen=True)
class Run:
    """The run that is shown: its directory, and plain values that say what it is."""

    directory: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """A sheet of sample pictures, as it lies in the run's directory."""

    name: str  # samples, samples/latents
    step: int
    path: Path
    captions: Sequence[str] = ()  # of its pictures, in order, where they are drawn from words


class Backend(Protocol):
    """One of these per program. Constructed from settings, it does nothing before ``open``.

    All but ``require``, ``state_dict`` and ``load_state_dict`` is called in a thread of its own
    and may raise what it likes: training goes on. After that it is closed, and opened again later.
    """

    rebuilt: bool  # whether it is written anew at each opening, from the first row on

    def require(self) -> None:
        """ValueError with what to type where it cannot work on this machine."""

    def open(self, run: Run, held: int | None, rewound_from: int | None) -> str:
        """Begin, or go on after step ``held``; a line that people should read, or "".

        It holds rows up to ``rewound_from``, where that is later: they will come once more.
        """

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, in order, so that a kill right after loses none."""

    def show(self, picture: Picture) -> None:
        """Take a sheet of pictures."""

    def close(self, *, failed: bool) -> None:
        """End; called once for each ``open``."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values by which a later sitting finds what this one began."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""


def pictures_of(directory: Path, captions: Sequence[str]) -> Iterator[Picture]:
    """The sheets that lie in a run's directory, by name and step; ``captions`` of the samples."""
    samples = directory / "samples"
    for path in sorted(samples.rglob("step_*.png")):
        name, step = path.parent.relative_to(directory), path.stem.removeprefix("step_")
        if step.isdigit():
            said = captions if path.parent == samples else ()
            yield Picture(name.as_posix(), int(step), path, said)
