"""What a model is conditioned by, among the commands: captions, classes, or nothing."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, model_folder, part_input, parts_at
from ldm.data.latents.cache import LatentCache
from ldm.data.shards.reader import ImageShards
from ldm.interop.condition_encoders import (
    PARTS,
    TEXT_ENCODERS,
    read_condition_encoder,
    read_towers,
)
from ldm.text.classes import ClassNames, ClassTable
from ldm.text.sdxl_text import SdxlText
from ldm.text.unconditional import Unconditional
from ldm.types import ConditionEncoder

Inputs = dict[str, dict[str, str]]


def condition_inputs(path: str) -> Inputs:
    """Path and fingerprint of each part that conditions the model at ``path``."""
    folder = str(model_folder(path, "unet"))
    return {part: part_input(folder, part) for part in parts_at(folder, PARTS)}


class Conditioning(NamedTuple):
    """What the captions of shards are to become, in words that another process understands."""

    condition: str  # text, classes or none
    inputs: Inputs
    classes: list[str]  # of condition=classes

    def encoder(self) -> ConditionEncoder:
        """What makes ids of them; a table of classes has only an idle token."""
        if self.condition == "none":
            return Unconditional()
        if self.condition == "classes":
            return ClassTable(names=self.classes, width=1)
        return _read_text(self.inputs, Path.cwd())

    @property
    def facts(self) -> dict[str, Any]:
        """What a cache records of them."""
        return {"classes": self.classes} if self.condition == "classes" else {}


def text_runs(config: DictConfig) -> list[str]:
    """The runs of text_run=; UserError where these do not suit condition=."""
    runs = config.text_run or []
    runs = [runs] if isinstance(runs, str) else list(runs)
    if (config.condition == "text") != bool(runs):
        raise UserError(
            "condition=text needs text_run=RUN, the text encoder's run (or two, text_run=[A,B])."
            if not runs
            else f"text_run={config.text_run} is not used with condition={config.condition}; leave "
            "one of them out."
        )
    if config.store == "features" and config.condition != "text":
        raise UserError(
            f"store=features keeps what a frozen text encoder says, and condition="
            f"{config.condition} has none: classes are learned with the denoiser. Use store=ids."
        )
    return runs


def conditioning(config: DictConfig, shards: ImageShards, held_out: ImageShards) -> Conditioning:
    """That of condition=text, classes or none; UserError where it does not suit the captions."""
    runs = text_runs(config)
    if config.condition == "none":
        return Conditioning("none", {}, [])
    if config.condition == "classes":
        return Conditioning("classes", {}, _classes(shards, held_out))
    return Conditioning("text", _text_inputs(runs), [])


def _classes(shards: ImageShards, held_out: ImageShards) -> list[str]:
    names = ClassNames(sorted(_distinct(shards) - {""}))
    if not names.names:
        raise UserError(
            f"condition=classes, but the pictures of {shards.root} have no captions to name their "
            "classes; prepare them with data.captions=class, or use condition=none."
        )
    if new := sorted(_distinct(held_out) - {*names.names, ""}):
        raise UserError(
            f"condition=classes: {len(new)} classes of {held_out.root} are those of no training "
            f"picture ({', '.join(map(repr, new[:3]))}, ...). Are these captions? Then use "
            "condition=text; or prepare the pictures with another data.held_out_fraction."
        )
    print(f"{len(names.names)} classes: {textwrap.shorten(', '.join(names.names), 80)}")
    return names.names


def _distinct(shards: ImageShards) -> set[str]:
    return {caption for i in range(len(shards)) for caption in shards.captions(i)}


def _text_inputs(runs: list[str]) -> Inputs:
    """The text encoders of ``text_run``: one, or two side by side as in Stable Diffusion XL.

    One run or folder may hold either; of two, the last part of each is meant.
    """
    if len(runs) == 1:
        found = {part: (runs[0], part) for part in text_parts(runs[0])}
    else:
        found = {
            name: (run, text_parts(run)[-1]) for name, run in zip(TEXT_ENCODERS, runs, strict=True)
        }
    return {name: part_input(*where) | {"part": where[1]} for name, where in found.items()}


def _read_text(inputs: Inputs, root: str | Path) -> ConditionEncoder:
    """The text encoders that ``_text_inputs`` found, with paths relative to ``root``."""
    named = {name: inputs[name] for name in TEXT_ENCODERS if name in inputs}
    folders = [input_folder(inputs, name, root) for name in named]
    parts = [entry["part"] for entry in named.values()]
    if len({*folders}) > 1 or parts != list(named):  # of two runs
        first, second = map(read_towers, folders, parts)
        return SdxlText(text_encoder=first, text_encoder_2=second, num_sizes=6, zero_null=False)
    found = read_condition_encoder(folders[0])
    if isinstance(found, SdxlText) and found.num_sizes != 6:
        raise UserError(
            f"{folders[0]} is Stable Diffusion XL's refiner, which is told an aesthetic score; "
            "cached pictures have none, so it draws here but is not trained."
        )
    return found


def text_parts(run: str) -> list[str]:
    """The text encoders of a run or folder; UserError where there is none."""
    if not (found := parts_at(run, TEXT_ENCODERS)):
        model_folder(run, "text_encoder")  # which says what makes one
    return found


def encoder_of(cache: LatentCache, *, width: int | None) -> ConditionEncoder:
    """What a denoiser on this cache is conditioned by; a table of classes, as new, is this wide."""
    condition = cache.manifest.settings["condition"]
    if condition == "text":
        return _read_text(cache.manifest.inputs, cache.root)
    if condition == "none":
        return Unconditional()
    assert cache.classes is not None
    if width is None:
        raise UserError(
            f"{cache.root} was cached with condition=classes, and backbone.context_dim=null takes "
            "no token; set backbone.context_dim to the width of the classes' tokens, such as 512."
        )
    return ClassTable(names=cache.classes, width=width)
