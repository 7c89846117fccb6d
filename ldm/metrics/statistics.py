"""A set of pictures as one file: what observers noted of it, so that it need not be seen again.

Ours (.safetensors) holds for each observer mean, covariance and, of sets that are not too large,
the rows themselves; published ones (.npz with mu and sigma) hold mean and covariance only.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.manifest import VERSION, atomic, file_hash, fingerprint
from ldm.metrics.frechet import Moments, moments
from ldm.metrics.notes import Notes, rows_of
from ldm.metrics.protocol import unlike

MOST_KEPT = 50_000 * 2048  # numbers under one name; 400 MB in float32
_FORMAT = "ldm statistics 1"
_COMMAND = "ldm evaluate reference=PICTURES metrics=[...] out=FILE.safetensors"
_AGAIN = f"Make them again: {_COMMAND}."


class Statistics(Protocol):
    """What is known of a set of pictures that are not here."""

    @property
    def count(self) -> int | None:
        """How many pictures there were; None where the file does not say."""
        ...

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Height and width of the pictures; None where the file does not say."""
        ...

    @property
    def protocol(self) -> dict[str, Any]:
        """What the record of a number must say of these pictures."""
        ...

    def moments(self, observer: str, protocol: Mapping[str, Any], name: str) -> Moments:
        """Mean and covariance of the rows ``name`` that an observer noted; ValueError without."""
        ...

    def notes(self, observer: str, protocol: Mapping[str, Any]) -> Notes:
        """The rows that an observer noted; ValueError where they are not in the file."""
        ...


class Observed(NamedTuple):
    """What an observer noted of the set."""

    observer: str
    protocol: Mapping[str, Any]
    notes: Notes


def write_statistics(
    path: str | Path,
    observed: Sequence[Observed],
    *,
    size_px: tuple[int, int],
    protocol: Mapping[str, Any],
    provenance: Mapping[str, Any],
    keep_rows: bool = True,
) -> None:
    """Write a statistics file; ``protocol`` is what a number's record says of these pictures.

    ``provenance`` is for people: where they came from, how they were made, versions. Rows of more
    than ``MOST_KEPT`` numbers are left out, and all rows where ``keep_rows`` is False.
    """
    tensors: dict[str, Tensor] = {}
    observers: dict[str, Any] = {}
    for one in observed:
        key = _key(one.observer, one.protocol)
        observers[key] = {"name": one.observer, "protocol": dict(one.protocol)}
        for name in one.notes.names:
            first = next(one.notes.blocks(name))
            if first.ndim == 2 and first.is_floating_point() and one.notes.count > 1:
                found = moments(one.notes.blocks(name))
                tensors[f"{key}/{name}/mean"] = found.mean
                tensors[f"{key}/{name}/covariance"] = found.covariance
            if keep_rows and one.notes.count * first[0].numel() <= MOST_KEPT:
                tensors[f"{key}/{name}/rows"] = rows_of(one.notes, name)
    about = {
        "format": _FORMAT,
        "made_by": f"ldm {VERSION}",
        "count": observed[0].notes.count,
        "size_px": list(size_px),
        "protocol": dict(protocol),
        "provenance": dict(provenance),
        "observers": observers,
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"statistics": json.dumps(about, sort_keys=True)})


def read_statistics(path: str | Path) -> Statistics:
    """The statistics of a file, by its suffix; ValueError naming it if it is no such file."""
    path = Path(path)
    if path.suffix == ".npz":
        return PublishedStatistics(path)
    if path.suffix == ".safetensors":
        return StatisticsFile(path)
    raise ValueError(
        f"{path} is no file of statistics: .safetensors (made by ldm evaluate reference=... "
        "out=FILE.safetensors) or .npz (mu and sigma, as published) is needed. Pickles could run "
        "code when read and are not opened."
    )


class StatisticsFile:
    """A file that ``write_statistics`` wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self._about = json.loads((file.metadata() or {}).get("statistics", "{}"))
                self._tensors = frozenset(file.keys())
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}). {_AGAIN}") from error
        if self._about.get("format") != _FORMAT:
            raise ValueError(f"{path} holds no statistics of pictures. {_AGAIN}")
        self.count: int = self._about["count"]
        height, width = self._about["size_px"]
        self.size_px: tuple[int, int] = (height, width)
        self.protocol: dict[str, Any] = self._about["protocol"]
        self.provenance: dict[str, Any] = self._about["provenance"]

    def moments(self, observer: str, protocol: Mapping[str, Any], name: str) -> Moments:
        key = f"{self._found(observer, protocol)}/{name}"
        if f"{key}/mean" not in self._tensors:
            raise ValueError(f"{self.path} holds no mean and covariance of {name}. {_AGAIN}")
        with safe_open(self.path, framework="pt") as file:
            mean, covariance = (file.get_tensor(f"{key}/{part}") for part in ("mean", "covariance"))
        return Moments(mean, covariance, self.count)

    def notes(self, observer: str, protocol: Mapping[str, Any]) -> Notes:
        start = f"{self._found(observer, protocol)}/"
        held = [key for key in self._tensors if key.startswith(start) and key.endswith("/rows")]
        if not held:
            raise ValueError(
                f"{self.path} holds only mean and covariance of what {observer} saw; this metric "
                "needs every picture's features. Give the pictures themselves (reference=DIR)."
            )
        return _KeptRows(self.path, {key[len(start) : -len("/rows")]: key for key in held})

    def _found(self, observer: str, protocol: Mapping[str, Any]) -> str:
        """The start of this observer's keys; ValueError naming what differs."""
        if (key := _key(observer, protocol)) in self._about["observers"]:
            return key
        others = [one for one in self._about["observers"].values() if one["name"] == observer]
        if not others:
            known = ", ".join(sorted({o["name"] for o in self._about["observers"].values()}))
            raise ValueError(
                f"{self.path} serves metrics in features of {known}, and none in those of "
                f"{observer}. {_AGAIN}"
            )
        differing = min((unlike(one, {"protocol": protocol}) for one in others), key=len)
        told = "; ".join(
            f"{key.replace('.', ' ')}: " + " | ".join("none" if v == "" else str(v) for v in both)
            for key, both in differing.items()
        )
        settings = ", ".join(dict.fromkeys(key.partition(".")[0] for key in differing))
        raise ValueError(
            f"The statistics {self.path} were made otherwise than asked ({told}). Change the "
            f"metric ({settings}), or make them again: {_COMMAND}."
        )


class _KeptRows:
    """Notes in a statistics file, read piece by piece."""

    def __init__(self, path: Path, keys: Mapping[str, str]) -> None:
        self._path, self._keys = path, keys

    @property
    def names(self) -> list[str]:
        return sorted(self._keys)

    @property
    def count(self) -> int:
        with safe_open(self._path, framework="pt") as file:
            found: int = file.get_slice(next(iter(self._keys.values()))).get_shape()[0]
        return found

    def blocks(self, name: str) -> Iterator[Tensor]:
        count = self.count
        with safe_open(self._path, framework="pt") as file:
            rows = file.get_slice(self._keys[name])
            for first in range(0, count, 1024):
                yield rows[first : min(first + 1024, count)]


class PublishedStatistics:
    """The .npz of pytorch-fid, clean-fid, TTUR or guided-diffusion: mu and sigma of the Inception.

    How many pictures of which size there were, and how these were resized, it does not say.
    """

    count = None
    size_px = None

    def __init__(self, path: Path) -> None:
        import zipfile

        import numpy as np

        self.path = path
        if not zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is no .npz, an archive of arrays: it is damaged, or another file. Fetch "
                "the published statistics again."
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = {"mu", "sigma"} - set(file.files)
                if missing:
                    raise ValueError(f"it has {', '.join(file.files)} and no mu or no sigma")
                arrays = [file[key] for key in ("mu", "sigma")]
            if any(np.iscomplexobj(array) for array in arrays):
                raise ValueError("mu or sigma is complex, and real numbers are needed")
            mean, covariance = (torch.from_numpy(array.astype(np.float64)) for array in arrays)
        except (ValueError, zipfile.BadZipFile, EOFError, TypeError) as error:
            raise ValueError(f"{path} cannot be read as published statistics: {error}.") from error
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                f"{path} has mu of shape {tuple(mean.shape)} and sigma of shape "
                f"{tuple(covariance.shape)}; (D,) and (D, D) are needed."
            )
        if not bool(mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError(f"{path} holds NaN or infinite numbers: it is damaged.")
        _require_covariance(path, covariance)
        self._moments = Moments(mean, covariance, None)
        self.protocol: dict[str, Any] = {
            "reference": f"published statistics {path.name}",
            "reference_hash": file_hash(path)[:16],
            "n_real": "unknown",
        }

    def moments(self, observer: str, protocol: Mapping[str, Any], name: str) -> Moments:
        if (observer, name) != ("inception", "features"):
            raise ValueError(
                f"{self.path} holds mean and covariance of the Inception's features, not of "
                f"{observer}. Give the pictures themselves (reference=DIR)."
            )
        return self._moments

    def notes(self, observer: str, protocol: Mapping[str, Any]) -> Notes:
        raise ValueError(
            f"{self.path} holds only mean and covariance, of which a Frechet distance can be "
            "computed (metrics=[fid]) and no other number: those need every picture's features. "
            "Give the pictures themselves (reference=DIR)."
        )


def _require_covariance(path: Path, matrix: Tensor) -> None:
    """ValueError where a matrix is not symmetric and positive semi-definite, up to rounding."""
    rounding = 1e-4 * float(matrix.diagonal().abs().max())  # some are published in float32
    if float((matrix - matrix.T).abs().max()) > rounding:
        raise ValueError(f"{path}: sigma is not symmetric, so it is no covariance.")
    if (least := float(torch.linalg.eigvalsh(matrix)[0])) < -rounding:
        raise ValueError(
            f"{path}: sigma has an eigenvalue of {least:.3g}; a covariance has none < 0."
        )


def _key(observer: str, protocol: Mapping[str, Any]) -> str:
    return f"{observer}-{fingerprint(protocol)}"
