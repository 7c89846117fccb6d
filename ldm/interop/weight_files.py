"""Which safetensors files hold the weights of a part: one, several with an index, or a variant.

Publishers put a variant (fp16, bf16, non_ema) between a file's name and its suffix, beside the
plain file or in its place. Pickled weights (.bin) are never opened.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.interop.config_values import TEXTS
from ldm.weights import load_state_dict


def read_files(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of ``weight_files``; ValueError for a file that is missing or damaged."""
    state: dict[str, Tensor] = {}
    for file in weight_files(folder, name):
        state |= load_state_dict(file)
    return state


def weight_files(folder: Path, name: str) -> list[Path]:
    """The files that stand for ``name`` (a plain file's name), which may be absent itself.

    The plain file or its index goes before a variant; of variants there may be one. ValueError
    where nothing is found, or where it is not clear which to take.
    """
    variants = _variants(folder, name)
    if (plain := _plain(folder, name)).is_file():
        chosen = plain
    elif len(variants) == 1:
        (chosen,) = variants
    elif variants:
        found = ", ".join(file.name for file in variants)
        raise ValueError(
            f"{folder / name} is missing, and there are several variants of it ({found}); leave "
            "the one that you mean in the folder."
        )
    else:
        raise _missing(folder / name)
    if chosen.suffix != ".json":
        return [chosen]
    try:
        index: Any = json.loads(chosen.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError):
        index = None
    listed = index.get("weight_map") if isinstance(index, dict) else None
    names = list(listed.values()) if isinstance(listed, dict) else []
    if not TEXTS[0](names):
        raise ValueError(f"{chosen} is damaged: it has no weight_map. Copy it again.")
    # Only plain names: an index from elsewhere may not point out of its folder.
    files = [folder / Path(file).name for file in sorted(set(names))]
    for file in files:
        if not file.is_file():
            raise _missing(file)
    return files


def what_was_chosen(folder: Path, name: str) -> str | None:
    """A clause on which of several files were taken, or on a variant; None for the usual file."""
    variants = _variants(folder, name)
    if not variants:
        return None
    if _plain(folder, name).is_file():
        left = ", ".join(file.name for file in variants)
        return f"{name} was taken, and {left} beside it was not"
    return f"{weight_files(folder, name)[0].name} was taken, as there is no {name}"


def index_of(folder: Path, name: str) -> Path:
    """Where the index of weights in several files lies."""
    return folder / f"{name}.index.json"


def _plain(folder: Path, name: str) -> Path:
    index = index_of(folder, name)
    return index if index.is_file() else folder / name


def _variants(folder: Path, name: str) -> list[Path]:
    """Single files and indices with a word more in their names; the parts of an index are not."""
    stem, suffix = Path(name).stem, Path(name).suffix
    found = [*folder.glob(f"{stem}.*{suffix}"), *folder.glob(f"{name}.index.*.json")]
    return sorted(file for file in found if not file.match("*-[0-9]*-of-[0-9]*"))


def _missing(file: Path) -> ValueError:
    pickled = sorted(found.name for found in file.parent.glob("*.bin"))
    if pickled:
        return ValueError(
            f"{file} is missing. {pickled[0]} beside it is a pickle, which could run code when "
            "read and is not opened. Fetch the .safetensors file of the same model, or have "
            "diffusers write it where you trust the file: "
            "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    return ValueError(
        f"{file} is missing. Copy it there, or export the model again with `ldm export "
        "format=diffusers`."
    )
