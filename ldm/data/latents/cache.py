"""The latent cache: what the autoencoder and the tokenizer make of the shards, made once.

A directory with ``manifest.json`` and one sub-folder per shape of pictures, HEIGHTxWIDTH in pixels,
with n samples in V variants (crops and their mirrors) and m captions:

- ``codes.npy`` (n, V, S, h, w) fp16, raw and unscaled: for KL mean and logvar, so that the
  posterior is drawn anew at every visit;
- ``sizes.npy`` (n, V, K) int32, K = 6 for encoders that are told sizes
  (``ldm.data.latents.sizes``), and 0 for others;
- ``ids.npy`` (m, ...) uint16 token ids of every caption, those of sample i from
  ``first_caption.npy[i]`` to ``first_caption.npy[i + 1]`` (n + 1,) int64;
- ``samples.npy`` (n,) int64 positions in the shards;
- where text features are stored, ``tokens.npy`` (m, L, D) and ``vector.npy`` (m, W), fp16.

All arrays are memory-mapped: no workers, no RAM. ``ldm.data.latents.files`` and
``ldm.data.latents.writer`` make them.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm.manifest import read_manifest

KIND = "latents"
REMEDY = "Make it with: ldm cache autoencoder_run=RUN text_run=RUN data.root=SHARDS out=DIR"
REQUIRED = ("codes", "sizes", "ids", "first_caption", "samples")
FEATURES = ("tokens", "vector")


class Gathered(NamedTuple):
    """What a cache holds of some samples."""

    code: Tensor  # (B, S, h, w) float16, as stored
    ids: Tensor  # (B, ...) int64
    sizes: Tensor  # (B, K) int64
    tokens: Tensor | None  # (B, L, D) float16, where text features are stored
    vector: Tensor | None  # (B, W) float16, likewise: the pooled caption without sizes


class LatentCache:
    """Random access to a finished cache; ValueError naming the command that makes one.

    Samples are counted within their bucket, and buckets as in ``counts``, ``shapes`` (S, h, w) and
    ``sizes_px`` (H, W).
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.manifest = read_manifest(self.root, kind=KIND, remedy=REMEDY)
        buckets = self.manifest.facts.get("buckets")
        if buckets is None:
            raise ValueError(
                f"{self.root} was cached by an older version of ldm, which laid its files out "
                f"differently; delete it. {REMEDY}"
            )
        self.counts: list[int] = [bucket["samples"] for bucket in buckets]
        self.sizes_px = [(bucket["height_px"], bucket["width_px"]) for bucket in buckets]
        self._open()
        for folder, arrays, count in zip(self._folders, self.arrays, self.counts, strict=True):
            found = {len(arrays["codes"]), len(arrays["sizes"]), len(arrays["first_caption"]) - 1}
            captions = {len(arrays[name]) for name in ("ids", *FEATURES) if name in arrays}
            if found != {count} or captions != {int(arrays["first_caption"][-1])}:
                raise ValueError(
                    f"{folder} should hold {count} latents but holds {len(arrays['codes'])}, or "
                    f"its files do not go together; delete {self.root}. {REMEDY}"
                )
        self.shapes = [tuple(arrays["codes"].shape[2:]) for arrays in self.arrays]
        self.num_variants = int(self.arrays[0]["codes"].shape[1])

    @property
    def _folders(self) -> list[Path]:
        return [bucket_folder(self.root, size) for size in self.sizes_px]

    def _open(self) -> None:
        """Map the ``arrays`` of each bucket by their names."""
        features = FEATURES if self.has_features else ()
        self.arrays: list[dict[str, NDArray[Any]]] = []
        for folder in self._folders:
            files = {name: folder / f"{name}.npy" for name in (*REQUIRED, *features)}
            for name, file in files.items():
                if not file.is_file() and name != "vector":  # which not every encoder makes
                    raise ValueError(f"{file} is missing; delete {self.root}. {REMEDY}")
            self.arrays.append(
                {name: self._mapped(file) for name, file in files.items() if file.is_file()}
            )

    def _mapped(self, file: Path) -> NDArray[Any]:
        try:
            # As a plain array, whose slices cost less than those of np.memmap.
            return np.asarray(np.load(file, mmap_mode="r"))
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{file} is damaged ({error}); delete {self.root}. {REMEDY}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its content; each worker opens the files itself.
        return {k: v for k, v in self.__dict__.items() if k != "arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return sum(self.counts)

    def gather(self, bucket: int, rows: Tensor, draw: Callable[[str], Tensor]) -> Gathered:
        """Samples ``rows`` (B,) of a bucket.

        ``draw`` gives uniforms u (B,) in (0, 1) by the name of what they choose, "variant" or
        "caption", and is asked only where there is a choice: of k, the one numbered floor(k u).
        """
        arrays, where = self.arrays[bucket], rows.numpy()
        which = where
        if self.num_variants > 1:
            which = where * self.num_variants + _choice(draw("variant"), self.num_variants)
        text = where
        if len(arrays["ids"]) > self.counts[bucket]:
            first, end = (arrays["first_caption"].take(where + i) for i in (0, 1))
            text = first + _choice(draw("caption"), end - first)
        variants = len(arrays["codes"]) * self.num_variants
        codes, sizes = (
            arrays[name].reshape(variants, math.prod(arrays[name].shape[2:]))
            for name in ("codes", "sizes")
        )
        code = torch.empty(len(which), codes.shape[1], dtype=torch.float16)
        np.take(codes, which, axis=0, out=code.numpy(), mode="clip")  # other modes copy once more
        return Gathered(
            code.view(len(which), *self.shapes[bucket]),
            torch.from_numpy(arrays["ids"].take(text, axis=0).astype(np.int64)),
            torch.from_numpy(sizes.take(which, axis=0).astype(np.int64)),
            *(
                torch.from_numpy(arrays[name].take(text, axis=0)) if name in arrays else None
                for name in FEATURES
            ),
        )

    @property
    def size_px(self) -> int:
        """The side of the squares, or of the square that has the buckets' area."""
        return int(self.manifest.settings["size_px"])

    @property
    def has_features(self) -> bool:
        """Whether the text encoder's output is stored, beside the ids."""
        return bool(self.manifest.settings["store"] == "features")

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


def bucket_folder(root: Path, size_px: tuple[int, int]) -> Path:
    """Where the arrays of the pictures of one shape lie."""
    return root / f"{size_px[0]}x{size_px[1]}"


def _choice(uniform: Tensor, count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    return (uniform.double().numpy() * count).astype(np.int64)
