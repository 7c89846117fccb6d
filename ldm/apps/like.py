"""`ldm sample like=FILE`: the settings in a picture as if they had been typed."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ldm.apps.errors import UserError
from ldm.apps.png_record import PngRecord, read_png_record
from ldm.apps.sample_folder import fingerprints
from ldm.manifest import file_hash

_NUMBERS = (
    "steps", "guidance", "guidance_rescale", "guidance_interval", "block", "sizes",
    "negative_sizes",
)  # fmt: skip
_FILES = ("image", "mask")
_NAMES = ("sampler", "spacing")


def recalled(
    file: str, texts: dict[str, str | None], words: Sequence[str]
) -> tuple[dict[str, str | None], list[str]]:
    """Literal texts and Hydra words of ``like=FILE``, completed by the settings in that picture.

    What was typed wins. UserError where the model or a picture that it was made from is not
    there, or is another by now, and the user named no other.
    """
    record = read_png_record(file)
    typed = {word.partition("=")[0].lstrip("+~") for word in words} | texts.keys()
    if "image" in texts and texts["image"] is None:
        typed |= {"mask", "strength"}  # which are about that picture
    found_texts, found_words = _settings(record, file)
    _require_inputs(record, file, typed)
    if "prompts" in typed:
        typed |= {"prompt", "prompt_to"}
    if "sampler" in typed:
        typed |= {key for key in found_words if key.startswith("sampler.")}
    more = [f"{key}={value}" for key, value in found_words.items() if key not in typed]
    return {k: v for k, v in found_texts.items() if k not in typed} | texts, [*more, *words]


def _settings(record: PngRecord, file: str) -> tuple[dict[str, str], dict[str, str]]:
    """Texts, which no grammar will see, and words of numbers and plain names."""
    protocol, picture = record.protocol, record.picture
    try:
        texts = {"model": record.paths["model"]}
        texts |= {key: record.paths[key] for key in _FILES if key in record.paths}
        texts |= {"prompt": picture.prompt, "negative": _text(protocol["negative"])}
        texts["out"] = f"like_{Path(file).stem}"
        words = {key: _name(protocol[key]) for key in _NAMES}
        words |= {key: _number(protocol[key]) for key in _NUMBERS}
        words["size"] = _number(protocol.get("size"))  # pictures made before there was a choice
        for key, value in protocol["sampler_settings"].items():
            words[f"sampler.{_name(key)}"] = _number(value)
        words |= {"seed": str(picture.seed), "num": "1"}
        words["accelerator"] = "cpu" if protocol["device"] == "cpu" else "gpu"
        if "edit" in protocol:
            words["strength"] = _number(protocol["edit"]["strength"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"like={file}: the settings in it are damaged ({error!r}).") from error
    if picture.prompt_to is not None:
        texts["prompt_to"] = picture.prompt_to
    if picture.seed_to is not None:
        words["seed_to"] = str(picture.seed_to)
    return texts, words


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z]\w*", value):
        raise ValueError(f"{value!r} is no name")
    return value


def _number(value: Any) -> str:
    """A number, flag, null or list of these, as a word of Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_number, value))}]"
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return json.dumps(value)


def _require_inputs(record: PngRecord, file: str, typed: Collection[str]) -> None:
    """UserError naming what the picture was made from and is not there as it was."""
    if "model" not in typed:
        model = record.paths["model"]
        try:
            found = fingerprints(model)
        except (UserError, FileNotFoundError) as error:
            raise UserError(
                f"like={file} was made with model={model}, which is not there ({error}). Say where "
                "it is now: model=RUN_OR_FOLDER."
            ) from error
        for name, fingerprint in found.items():
            if fingerprint != record.protocol.get(name):
                raise UserError(
                    f"like={file} was made with another {name} than model={model} has now: "
                    f"{record.protocol.get(name)}, now {fingerprint}. Give the model that made it, "
                    f"model=RUN_OR_FOLDER, or model={model} to make the picture with this one."
                )
    for key in _FILES:
        path = record.paths.get(key)
        if path is None or key in typed:
            continue
        if not Path(path).is_file():
            raise UserError(
                f"like={file} was made from {key}={path}, which is not there. Say where it is now: "
                f"{key}=FILE."
            )
        if file_hash(path) != record.protocol.get("edit", {}).get(key):
            raise UserError(
                f"like={file} was made from {key}={path}, but that file has changed since. Give "
                f"the one it was made from, {key}=FILE, or {key}={path} to take this one."
            )
