"""How a picture was made, inside its own PNG file: for `ldm sample like=`, and for web UIs."""

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from ldm.apps.errors import UserError
from ldm.apps.request import Picture
from ldm.data.images import MAX_PIXELS
from ldm.manifest import VERSION

KEY = "ldm"
_WEB_UIS = "parameters"  # the key under which web UIs look for a text of their own form


class PngRecord(NamedTuple):
    """What one picture is: its row, the protocol of its folder, and where its inputs lay."""

    picture: Picture
    protocol: dict[str, Any]
    paths: dict[str, str]  # model, and image and mask where there were any: as they were typed


def write_png(file: Path, pixels: NDArray[np.uint8], record: PngRecord) -> None:
    """Write a picture (H, W, 3), or (H, W) if grey, with its record; equal ones are equal bytes.

    A killed process leaves no half of one; many are written, so none waits for the disk.
    """
    value = {
        "picture": record.picture.row(),
        "protocol": record.protocol,
        "paths": record.paths,
    }
    info = PngInfo()
    info.add_text(_WEB_UIS, _for_web_uis(record, pixels.shape[1], pixels.shape[0]))
    info.add_text(KEY, json.dumps(value, sort_keys=True))
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=info)
    os.replace(temporary, file)


def read_png_record(file: str | Path) -> PngRecord:
    """The record in a PNG file; nothing of it is trusted but its types.

    UserError where there is none, or where it is damaged.
    """
    if not Path(file).is_file():
        raise UserError(f"like={file}: there is no such file.")
    text = _text(Path(file))
    if text is None:
        raise UserError(
            f"like={file} carries no settings of `ldm sample`: another program made or saved it, "
            "or it is a grid of several pictures. Name one picture of a folder of samples."
        )
    try:
        value = json.loads(text)
        picture = Picture(**value["picture"])
        record = PngRecord(picture, dict(value["protocol"]), dict(value["paths"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    texts = [picture.prompt, picture.prompt_to or "", *record.paths.values()]
    numbers = [picture.seed, picture.position, picture.seed_to or 0]
    weight = picture.weight
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        and (weight is None or (type(weight) in (int, float) and 0.0 <= weight <= 1.0))
    ):
        raise _damaged(file, "a value is of another kind than it should be")
    return record


def _damaged(file: str | Path, why: str) -> UserError:
    return UserError(f"like={file}: the settings in it are damaged ({why}).")


def _text(file: Path) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow about large pictures: our limit decides
        try:
            image = Image.open(io.BytesIO(file.read_bytes()), formats=("PNG",))
            assert isinstance(image, PngImageFile)
            if image.width * image.height > MAX_PIXELS:
                raise ValueError("too many pixels")
            found = image.text.get(KEY)
        except Exception as error:  # parsers of hostile bytes raise anything
            raise UserError(f"like={file} is no PNG file, or a damaged one.") from error
    return None if found is None else str(found)


def _for_web_uis(record: PngRecord, width: int, height: int) -> str:
    """Prompt, negative prompt and one line of settings, as web UIs show and share them."""
    protocol, picture = record.protocol, record.picture
    settings = {
        "Steps": protocol["steps"],
        "Sampler": protocol["sampler"],
        "CFG scale": protocol["guidance"],
        "Seed": picture.seed,
        "Size": f"{width}x{height}",
        "Model hash": protocol["model"],
    }
    if "edit" in protocol:
        settings["Denoising strength"] = protocol["edit"]["strength"]
    settings["Version"] = f"ldm {VERSION}"
    lines = [picture.prompt]
    if protocol["negative"]:
        lines.append(f"Negative prompt: {protocol['negative']}")
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in settings.items())])
