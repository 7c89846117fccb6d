"""Pretrained files: which exist, where they belong, whether they are intact. Never downloads.

Torch only. A file lies under its public name in one folder, ``weights_dir``; everything that
needs it asks ``find`` before any work starts, so offline machines learn at once what is missing.
"""

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class PretrainedFile:
    """A file that others trained: its name, identity, size and licence."""

    name: str  # what configs and `find` call it
    file_name: str  # a trailing -XXXXXXXX is the start of its sha256, by its publisher's custom
    sha256: str | None  # full digest, where known
    size_mb: float  # 10^6 bytes
    licence: str
    source: str  # the public project that publishes it, in words

    @property
    def digest_start(self) -> str | None:
        """The leading hex digits that the sha256 must have; None if nothing is known."""
        if self.sha256 is not None:
            return self.sha256
        found = re.search(r"-([0-9a-f]{8})\.[a-z]+$", self.file_name)
        return found.group(1) if found else None


TABLE: dict[str, PretrainedFile] = {
    file.name: file
    for file in (
        PretrainedFile(
            name="vgg16",
            file_name="vgg16-397923af.pth",
            sha256=None,
            size_mb=553.4,
            licence="BSD-3-Clause (code); trained on ImageNet, whose images are research only",
            source="torchvision VGG16 IMAGENET1K_V1 (vgg16-397923af.pth)",
        ),
        PretrainedFile(
            name="inception_fid",
            file_name="weights-inception-2015-12-05-6726825d.pth",
            sha256=None,
            size_mb=95.6,
            licence="Apache-2.0",
            source="torch-fidelity release v0.2.0 (weights-inception-2015-12-05-6726825d.pth)",
        ),
    )
}


def find(name: str, weights_dir: str | Path | None) -> Path:
    """The path of pretrained file ``name`` in ``weights_dir``, its checksum verified.

    ValueError if the name is unknown, no folder is set, or the file is missing or damaged; the
    message names the file, where it belongs and who publishes it.
    """
    if name not in TABLE:
        raise ValueError(f"No pretrained file is called {name!r}. Known: {', '.join(TABLE)}.")
    file = TABLE[name]
    origin = f"It is published by {file.source}, {file.size_mb:g} MB, licence {file.licence}."
    if weights_dir is None:
        raise ValueError(
            f"{file.file_name} is needed, but weights_dir is not set. {origin} "
            "Put it into a folder and set weights_dir=FOLDER."
        )
    path = Path(weights_dir).expanduser() / file.file_name
    if not path.is_file():
        raise ValueError(
            f"{file.file_name} is missing; it belongs at {path}. {origin} "
            "Nothing is downloaded behind your back: put the file there, or set weights_dir to "
            "the folder that holds it."
        )
    expected = file.digest_start
    if expected is not None:
        with open(path, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(expected):
            raise ValueError(
                f"{path} is damaged or another file: its sha256 starts with "
                f"{found[: len(expected)]}, expected {expected}. Delete it and fetch it again. "
                f"{origin}"
            )
    return path


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, on the CPU; code in a pickle is never run.

    A file that wraps them in ``state_dict`` is unwrapped. ValueError if the file holds anything
    but tensors, or is damaged.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which could run code when read "
            f"({str(error).splitlines()[0]}). Use the original file, or a .safetensors version."
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{path} is not a state dict: a mapping from names to tensors is needed.")
    return dict(loaded)


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits that stand for named tensors: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
