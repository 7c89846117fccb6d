"""Pretrained files: which exist, where they belong, whether they are intact. Never downloads.

Torch only. A file lies under its public name in one folder, ``weights_dir``; everything that
needs it asks ``find`` before any work starts, so offline machines learn at once what is missing.
"""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    with open(path, "rb") as file:
        head = file.read(64)
    if (what := _what_else(head, path.suffix)) is not None:
        raise ValueError(f"{path} is {what}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}. Fetch it again.") from error
    loaded = _unpickled(path)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{path} is not a state dict: a mapping from names to tensors is needed.")
    return dict(loaded)


# What lies under the name of a weights file where fetching it went wrong.
_NO_WEIGHTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it: git lfs pull.",
    b"<!doctype html": "a web page, not the file that it offers; fetch the file itself.",
    b"<html": "a web page, not the file that it offers; fetch the file itself.",
}


def _what_else(head: bytes, suffix: str) -> str | None:
    """What a file is that begins like this and is not what its name says; None if it may be."""
    named = suffix == ".safetensors"
    if head[8:9] == b"{":  # after the length of this header, which may be any bytes
        return None if named else "a safetensors file by its content; rename it to .safetensors."
    for start, found in _NO_WEIGHTS.items():
        if head.lstrip().lower().startswith(start):
            return found
    if head.startswith((b"PK", b"\x80")):  # an archive; a pickle of old
        return "a torch file (a pickle) by its content; rename it to .ckpt." if named else None
    return None if named or not head else "neither a safetensors nor a torch file."


class _Inert:
    """Stands for a class that a checkpoint names beside its tensors; it does nothing."""


# Checkpoints of PyTorch Lightning 1, as of Stable Diffusion 1, have the class as a key.
_NAMED_ONLY: list[Any] = [(_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]


def _unpickled(path: Path) -> Any:
    """What a torch file holds, by the restricted loader; ValueError where that refuses."""
    try:
        with torch.serialization.safe_globals(_NAMED_ONLY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({found[1]})" if found else "is damaged, or no torch file"
        raise ValueError(
            f"{path} {what}. A pickle could run code when read, so it is not opened. Use a "
            ".safetensors version of it; where you trust the file, write one: safetensors.torch."
            "save_file(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE)."
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = str(error).split(". ")[0] or "it ends too early"
        raise ValueError(f"{path} is damaged ({reason}). Fetch it again.") from error


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits that stand for named tensors: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
