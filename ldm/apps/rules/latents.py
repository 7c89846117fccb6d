"""A latent cache against what is to train on it: size, channels, widths, and what made it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ldm.apps.rules.case import Case
from ldm.data.latents.cache import LatentCache


class Widths(NamedTuple):
    """What a condition brings: the width of its tokens, and of a vector beside them."""

    width: int | None
    vector_dim: int | None


def fit(case: Case) -> Iterator[str]:
    """Size, stride, channels and widths; of the cache's manifest and small files alone."""
    if case.latents is None:
        return
    from ldm.apps.stages.latents import check_size, check_widths

    cache = LatentCache(case.root)
    condition = cache.manifest.settings["condition"]
    found = _widths(cache) if condition == "text" else Widths(None, None)
    if found is not None:
        try:
            check_widths(case.config, cache, *found, with_classes=condition == "classes")
        except ValueError as error:
            yield str(error)
    stride = getattr(case.network, "stride", 1)
    try:
        check_size(case.config, cache, stride)
    except ValueError as error:
        yield str(error)


def classes_have_a_width(case: Case) -> Iterator[str]:
    """Classes become tokens, and a backbone that takes none has no width for them."""
    latents = case.latents
    if latents is None or latents.settings.get("condition") != "classes":
        return
    if case.config.backbone.get("context_dim") is None:
        yield (
            f"{case.root} was cached with condition=classes, and backbone.context_dim=null takes "
            "no token; set backbone.context_dim to the width of the classes' tokens, such as 512."
        )
    if case.config.strategy == "fsdp":
        yield (
            "strategy=fsdp shares out the denoiser alone, but these latents have classes, whose "
            "table learns beside it; set strategy=ddp."
        )


def made_with(case: Case) -> None:
    """That autoencoder and text encoders are those which made the cache, by their bytes."""
    if case.latents is None:
        return
    from ldm.apps.stages.latents import verified_inputs

    verified_inputs(LatentCache(case.root))  # says what differs


def _widths(cache: LatentCache) -> Widths | None:
    """Those of the cache's text encoders by their configurations; None where these do not say."""
    from ldm.apps.locate import input_folder
    from ldm.interop.condition_encoders import TEXT_ENCODERS
    from ldm.text.sdxl_text import SIZE_EMBEDDING_DIM

    inputs = cache.manifest.inputs
    towers = []
    for name in TEXT_ENCODERS:
        if name in inputs:
            folder = input_folder(inputs, name, cache.root) / inputs[name].get("part", name)
            towers.append(_tower(folder))
    if not towers or None in towers:
        return None
    known = [tower for tower in towers if tower is not None]
    if "text_encoder_2" not in inputs:
        return Widths(known[0].width, None)
    projected = known[-1].vector_dim
    vector = None if projected is None else projected + 6 * SIZE_EMBEDDING_DIM
    return Widths(sum(tower.width or 0 for tower in known), vector)


def _tower(folder: Path) -> Widths | None:
    """Width and projection of one text tower, in open_clip's layout or transformers'."""
    ours, theirs = folder / "open_clip_config.json", folder / "config.json"
    if ours.is_file():
        model = json.loads(ours.read_text())["model_cfg"]
        return Widths(model["text_cfg"]["width"], model["embed_dim"])
    if theirs.is_file():
        settings = json.loads(theirs.read_text())
        return Widths(settings.get("hidden_size"), settings.get("projection_dim"))
    return None
