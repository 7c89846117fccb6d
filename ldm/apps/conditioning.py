"""What a model is conditioned by, among the commands: captions, classes, or nothing."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, model_folder, part_input, parts_at
from ldm.data.cache import LatentCache
from ldm.data.shards import ImageShards
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
    """What `ldm cache` needs to know of captions: inputs, captions -> ids, and what it records."""

    inputs: Inputs
    tokenize: Callable[[Sequence[str]], Tensor]
    takes_sizes: bool = False
    facts: Mapping[str, Any] = MappingProxyType({})


def conditioning(config: DictConfig, shards: ImageShards, held_out: ImageShards) -> Conditioning:
    """That of condition=text, classes or none; UserError where it does not suit the captions."""
    runs = config.text_run or []
    runs = [runs] if isinstance(runs, str) else list(runs)
    if (config.condition == "text") != bool(runs):
        raise UserError(
            "condition=text needs text_run=RUN, the text encoder's run (or two, text_run=[A,B])."
            if not runs
            else f"text_run={config.text_run} is not used with condition={config.condition}; leave "
            "one of them out."
        )
    if config.condition == "none":
        return Conditioning({}, Unconditional().tokenize)
    if config.condition == "classes":
        return _classes(shards, held_out)
    inputs = _text_inputs(runs)
    encoder = _read_text(inputs, Path.cwd())
    truncated = sum(encoder.is_truncated(caption) for caption in set(shards.first_captions()))
    if truncated:
        print(f"{truncated} captions have more tokens than the text encoder takes and are cut")
    return Conditioning(inputs, encoder.tokenize, encoder.vector_dim is not None)


def _classes(shards: ImageShards, held_out: ImageShards) -> Conditioning:
    names = ClassNames(sorted({*shards.first_captions()} - {""}))
    if not names.names:
        raise UserError(
            f"condition=classes, but the pictures of {shards.root} have no captions to name their "
            "classes; prepare them with data.captions=class, or use condition=none."
        )
    if new := sorted({*held_out.first_captions()} - {*names.names, ""}):
        raise UserError(
            f"condition=classes: {len(new)} classes of {held_out.root} are those of no training "
            f"picture ({', '.join(map(repr, new[:3]))}, ...). Are these captions? Then use "
            "condition=text; or prepare the pictures with another data.held_out_fraction."
        )
    print(f"{len(names.names)} classes: {textwrap.shorten(', '.join(names.names), 80)}")
    return Conditioning({}, names, facts={"classes": names.names})


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
