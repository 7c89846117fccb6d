"""What a model is conditioned by, among the commands: captions, classes, or nothing."""

from pathlib import Path

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, model_folder, part_input, parts_at
from ldm.data.cache import LatentCache
from ldm.interop.condition_encoders import (
    PARTS,
    TEXT_ENCODERS,
    read_condition_encoder,
    read_towers,
)
from ldm.text.classes import ClassTable
from ldm.text.sdxl_text import SdxlText
from ldm.text.unconditional import Unconditional
from ldm.types import ConditionEncoder

Inputs = dict[str, dict[str, str]]


def condition_inputs(path: str) -> Inputs:
    """Path and fingerprint of each part that conditions the model at ``path``."""
    folder = str(model_folder(path, "unet"))
    return {part: part_input(folder, part) for part in parts_at(folder, PARTS)}


def text_inputs(runs: list[str]) -> Inputs:
    """The text encoders of ``text_run``: one, or two side by side as in Stable Diffusion XL.

    One run or folder may hold either; two hold one each.
    """
    if len(runs) > 2:
        raise UserError(f"text_run={runs}: at most two text encoders stand side by side.")
    if len(runs) == 1:
        return {part: part_input(runs[0], part) for part in text_parts(runs[0])}
    named = zip(TEXT_ENCODERS, runs, strict=True)
    return {name: part_input(run, part_of(name, Path(run))) for name, run in named}


def read_text(inputs: Inputs, root: str | Path) -> ConditionEncoder:
    """The text encoders that ``text_inputs`` found, with paths relative to ``root``."""
    folders = {part: input_folder(inputs, part, root) for part in TEXT_ENCODERS if part in inputs}
    folder, *others = folders.values()
    if others and (others != [folder] or len(text_parts(str(folder))) == 1):  # of two runs
        second = others[0]
        return SdxlText(
            text_encoder=read_towers(folder),
            text_encoder_2=read_towers(second, part_of("text_encoder_2", second)),
            num_sizes=6,
            zero_null=False,
        )
    found = read_condition_encoder(folder)
    if isinstance(found, SdxlText) and found.num_sizes != 6:
        raise UserError(
            f"{folder} is Stable Diffusion XL's refiner, which is told an aesthetic score; cached "
            "pictures have none, so it draws here but is not trained."
        )
    return found


def part_of(name: str, folder: Path) -> str:
    """The part of a folder that a cache's input of this name is."""
    if name == "text_encoder_2":  # which is the only one of a run of its own
        return text_parts(str(folder))[-1]
    return {"autoencoder": "vae"}.get(name, name)


def text_parts(run: str) -> list[str]:
    """The text encoders of a run or folder; UserError where there is none."""
    if not (found := parts_at(run, TEXT_ENCODERS)):
        model_folder(run, "text_encoder")  # which says what makes one
    return found


def encoder_of(cache: LatentCache, *, width: int | None) -> ConditionEncoder:
    """What a denoiser on this cache is conditioned by; a table of classes, as new, is this wide."""
    condition = cache.manifest.settings["condition"]
    if condition == "text":
        return read_text(cache.manifest.inputs, cache.root)
    if condition == "none":
        return Unconditional()
    assert cache.classes is not None
    if width is None:
        raise UserError(
            f"{cache.root} was cached with condition=classes, and backbone.context_dim=null takes "
            "no token; set backbone.context_dim to the width of the classes' tokens, such as 512."
        )
    return ClassTable(names=cache.classes, width=width)
