"""Where a pretrained file lies in ``weights_dir``, and whether it is the published one."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ldm.weights.table import TABLE, Pretrained

_FETCH = (
    " Nothing is downloaded behind your back: where there is a network, `ldm weights fetch {} "
    "weights_dir={}` does it."
)


class MissingWeights(ValueError):
    """A pretrained file is not there, or is none that was published."""


@dataclass(frozen=True)
class FoundFile:
    """A file of weights that is there; what belongs to it lies beside it."""

    path: Path
    sha256: str
    published: bool  # whether its checksum is the one that is published for the file of this name
    file: str  # its path below weights_dir, by which a record names it on any machine

    @property
    def protocol(self) -> dict[str, str]:
        """What the record of a number must say of it; see ldm/metrics/protocol.py."""
        said = {"weights_file": self.file, "weights_sha256": self.sha256}
        return said if self.published else said | {"unpublished_weights": self.file}


def find(name: str, weights_dir: str | Path | None, *, allow_unknown: bool = False) -> FoundFile:
    """The weights ``name``, verified: a name of the table, or of a file or folder in weights_dir.

    ValueError if the name is unknown or no folder is set; MissingWeights if a file is missing, or
    not the published one, unless ``allow_unknown``. What the table does not know has no published
    checksum, so that it is none. The message names each missing file, where it belongs and who
    publishes it.
    """
    known = TABLE.get(name) or _known_by_path(name)
    if known is None and not Path(name).suffix:
        raise ValueError(f"No pretrained file is called {name!r}. Known: {', '.join(TABLE)}.")
    if weights_dir is None:
        raise ValueError(
            f"{known.weights.path if known else name} is needed, but weights_dir is not set. Put "
            f"it into a folder and set weights_dir=FOLDER. {_origin(known)}"
        )
    folder = Path(weights_dir).expanduser()
    if missing := [place for place in _places(known, name, folder) if not place[0].is_file()]:
        names, places = (", ".join(said) for said in zip(*map(_in_words, missing), strict=True))
        verb = "are missing; they belong" if len(missing) > 1 else "is missing; it belongs"
        raise MissingWeights(
            f"{names} {verb} at {places}. "
            f"{_origin(known)}" + (_FETCH.format(known.name, weights_dir) if known else "")
        )
    file = known.weights.path if known else name
    path = folder / file
    sha256 = sha256_of(path)
    expected = known.weights.sha256 if known else None
    if sha256 != expected and not allow_unknown:
        raise MissingWeights(
            f"{_not_published(path, sha256, expected)} {_origin(known)} `ldm evaluate` takes it "
            "with allow_unknown_weights=true, which marks the numbers as not valid."
        )
    return FoundFile(path, sha256, published=sha256 == expected, file=file)


def sha256_of(path: Path) -> str:
    """The checksum of a file's bytes; a file that did not change is read once by a process."""
    stat = path.stat()
    return _sha256(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _not_published(path: Path, sha256: str, expected: str | None) -> str:
    if expected is None:
        return f"No published checksum is known of {path}."
    return (
        f"{path} is damaged or another file: its sha256 starts with {sha256[:8]}, expected "
        f"{expected[:8]}. Delete it and fetch it again."
    )


def _in_words(place: tuple[Path, str | None]) -> tuple[str, str]:
    path, url = place
    return path.name, f"{path} (from {url})" if url else str(path)


def _known_by_path(name: str) -> Pretrained | None:
    """The network whose weights, or whose folder, bears this name."""
    for network in TABLE.values():
        if name and name in (network.weights.path, network.weights.path.rpartition("/")[0]):
            return network
    return None


def _places(known: Pretrained | None, name: str, folder: Path) -> list[tuple[Path, str | None]]:
    """Each file that is needed, the weights first, and its url."""
    if known is None:
        return [(folder / name, None)]
    return [(folder / file.path, file.url) for file in known.files]


def _origin(known: Pretrained | None) -> str:
    if known is None:
        return "It is none of those that `ldm weights list` shows."
    return f"Published by {known.source}; {known.size}; licence: {known.terms}."
