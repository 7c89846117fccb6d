"""The latent cache: what the autoencoder and the tokenizer make of the shards, made once.

A directory with ``codes.npy`` (N, S, h, w) fp16, raw and unscaled (for KL mean and logvar, so that
the posterior is drawn anew at every visit), ``ids.npy`` (N, ...) uint16 token ids, ``sizes.npy``
int32, (N, 6) for encoders that are told sizes (``ldm.data.sizes``) and (N, 0) for others, and
``manifest.json`` with the fingerprints of shards, autoencoder and text encoder and with per-channel
statistics of the latents. All arrays are memory-mapped: no workers, no RAM.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.data.shards import ImageShards
from ldm.data.source import Sample
from ldm.manifest import Manifest, read_json, read_manifest, write_json, write_manifest

KIND = "latents"
REMEDY = "Make it with: ldm cache autoencoder_run=RUN text_run=RUN data.root=SHARDS out=DIR"
EXAMPLES = 64  # captions kept in the manifest, for previews
_PROGRESS = "progress.json"
_ARRAYS = {"codes": np.float16, "ids": np.uint16, "sizes": np.int32}


class LatentCache:
    """Random access to a finished cache; ValueError naming the command that makes one."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.manifest = read_manifest(self.root, kind=KIND, remedy=REMEDY)
        self._open()
        expected = self.manifest.facts["num_samples"]
        if {len(self.codes), len(self.ids), len(self.sizes)} != {expected}:
            raise ValueError(
                f"{self.root} should hold {expected} latents but holds {len(self.codes)}; "
                f"delete it. {REMEDY}"
            )

    def _open(self) -> None:
        for name in _ARRAYS:
            if not (file := _file(self.root, name)).is_file():
                raise ValueError(f"{file} is missing; delete {self.root}. {REMEDY}")
        self.codes, self.ids, self.sizes = (
            np.load(_file(self.root, name), mmap_mode="r") for name in _ARRAYS
        )

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its content; each worker opens the files itself.
        return {"root": self.root, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.codes)

    def gather(self, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (B, S, h, w) float32, ids (B, ...) and sizes (B, K) int64 at positions (B,)."""
        rows = where.numpy()
        code = torch.from_numpy(self.codes[rows].astype(np.float32))
        ids = torch.from_numpy(self.ids[rows].astype(np.int64))
        return code, ids, torch.from_numpy(self.sizes[rows].astype(np.int64))

    @property
    def classes(self) -> list[str] | None:
        """The classes that the ids count; None where they are not of classes."""
        names = self.manifest.facts.get("classes")
        return None if names is None else list(names)

    @property
    def examples(self) -> list[str]:
        """A few captions of the set, for previews."""
        return list(self.manifest.facts["examples"])

    @property
    def mean(self) -> list[float]:
        """Per-channel mean of the latents."""
        return list(self.manifest.facts["mean"])

    @property
    def std(self) -> list[float]:
        """Per-channel standard deviation of the latents, the posterior's own included."""
        return list(self.manifest.facts["std"])


def write_cache(
    shards: ImageShards,
    directory: str | Path,
    *,
    encode: Callable[[Tensor], Tensor],
    moments: Callable[[Tensor], tuple[Tensor, Tensor]],
    tokenize: Callable[[Sequence[str]], Tensor],
    load: Callable[[np.ndarray], Tensor],
    sizes: Callable[[Sample], Sequence[int]],
    block: int,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Any],
) -> Iterator[int]:
    """Encode every sample in fixed blocks of ``block``; yields the number of samples done.

    ``encode``: images (B, 3, H, W) -> codes (B, S, h, w). ``moments``: codes -> (mean, variance)
    of the latents (B, C, h, w), for the statistics. ``load``: uint8 picture -> (3, H, W).
    ``sizes``: sample -> its sizes. ``facts`` join the manifest. A killed run continues after
    its last finished block; a block is always the same samples, so the result does not depend on
    where it stopped. ValueError on a latent that is not finite or overflows fp16, naming its key.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    total, done = len(shards), 0
    asked = {"settings": dict(settings), "inputs": {k: v["fingerprint"] for k, v in inputs.items()}}
    progress = directory / _PROGRESS
    arrays: dict[str, np.memmap] = {}
    if progress.is_file():
        state = read_json(progress)
        if state["asked"] == asked:
            done = state["done"]
            for name in _ARRAYS:
                arrays[name] = np.lib.format.open_memmap(_file(directory, name), mode="r+")
    yield done
    while done < total:
        samples = [shards[i] for i in range(done, min(done + block, total))]
        code = encode(torch.stack([load(sample.image) for sample in samples])).float()
        rows = {
            "codes": _stored(code, samples).numpy(),
            "ids": tokenize([sample.caption for sample in samples]).numpy(),
            "sizes": np.array([sizes(sample) for sample in samples]),
        }
        arrays = arrays or {
            name: _create(_file(directory, name), dtype, (total, *rows[name].shape[1:]))
            for name, dtype in _ARRAYS.items()
        }
        end = done + len(samples)
        for name, array in arrays.items():
            array[done:end] = rows[name]
            array.flush()
        done = end
        write_json(progress, {"asked": asked, "done": done})
        yield done
    codes = arrays["codes"]
    mean, std = _statistics(codes, moments)
    write_manifest(
        directory,
        kind=KIND,
        settings=settings,
        inputs=inputs,
        facts={
            "num_samples": total,
            "shape": list(codes.shape[1:]),
            "mean": mean,
            "std": std,
            "examples": list(shards.first_captions(EXAMPLES)),
            **facts,
        },
    )
    progress.unlink(missing_ok=True)


def finished(
    directory: str | Path, *, settings: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str]]
) -> Manifest | None:
    """The manifest if the cache is complete and made from exactly this; None if there is none.

    ValueError naming the difference if it was made from something else (design law 2).
    """
    if not (Path(directory) / "manifest.json").is_file():
        return None
    found = read_manifest(directory, kind=KIND)
    for name, value in inputs.items():
        if found.inputs.get(name, {}).get("fingerprint") != value["fingerprint"]:
            raise ValueError(
                f"the latent cache {directory} was made from another {name} "
                f"({found.inputs.get(name, {}).get('fingerprint')}, now {value['fingerprint']}). "
                f"Delete {directory} or choose another out=, then run `ldm cache` again."
            )
    for name, setting in settings.items():
        if found.settings.get(name) != setting:
            raise ValueError(
                f"the latent cache {directory} was made with {name}={found.settings.get(name)!r}, "
                f"now {setting!r}. Delete it or choose another out=."
            )
    return found


def _stored(code: Tensor, samples: Sequence[Sample]) -> Tensor:
    """The codes of samples in fp16; ValueError naming the first that is not finite in it."""
    half = code.to(torch.float16)
    finite = half.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = samples[int((~finite).nonzero()[0])].key
        raise ValueError(
            f"the latent of sample {bad!r} is not finite in fp16; the autoencoder diverged. Train "
            "it again with a lower lr or a larger kl_weight."
        )
    return half


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.npy"


def _create(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # A full disk is an error here and now, and not a bus error at some later page.
    if not hasattr(os, "posix_fallocate"):  # macOS
        return array
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def _statistics(
    codes: np.ndarray, moments: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[list[float], list[float]]:
    """Per-channel mean and std of the drawn latents, in float64, in fixed blocks."""
    count, first, second = 0, torch.zeros(1), torch.zeros(1)
    for start in range(0, len(codes), 4096):
        code = torch.from_numpy(codes[start : start + 4096].astype(np.float64))
        mean, variance = moments(code)
        first = first + mean.sum(dim=(0, 2, 3))
        second = second + (mean.square() + variance).sum(dim=(0, 2, 3))
        count += mean.shape[0] * mean.shape[2] * mean.shape[3]
    mean = first / count
    return mean.tolist(), (second / count - mean.square()).clamp(min=1e-12).sqrt().tolist()
