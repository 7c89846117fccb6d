"""Tensors of files that others made, read without running code from them."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, on the CPU; code in a pickle is never run.

    A file that wraps them in ``state_dict`` is unwrapped. ValueError if the file holds anything
    but tensors, or is damaged.
    """
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(64)
    if (what := what_else(head, path.suffix)) is not None:
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


def what_else(head: bytes, suffix: str) -> str | None:
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
