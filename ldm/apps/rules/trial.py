"""One forward and backward pass of what is trained, on the meta device: shapes without numbers."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import OmegaConf

from ldm.apps.build import build
from ldm.apps.rules.case import Case
from ldm.types import Condition

_TOKENS = 8  # of a caption; any number will do
_TRIED: dict[str, str | None] = {}  # what was tried, and what was said of it


def passes(case: Case) -> Iterator[str]:
    """Whether the parts fit together; what they say where they do not."""
    more = ["size", "discriminator"] if case.config.stage == "autoencoder" else []
    told = OmegaConf.masked_copy(case.config, ["stage", case.part, *more])
    key = OmegaConf.to_yaml(told)
    if key not in _TRIED:  # once for all jobs of a sweep that train this network
        _TRIED[key] = _torn(Case(told))
    if (said := _TRIED[key]) is not None:
        yield (
            f"{case.part} cannot be computed with these settings ({said}). Compare its widths "
            f"with those of configs/{case.part}, or leave them at one of these: {case.part}=NAME."
        )


def _torn(case: Case) -> str | None:
    passing = {
        "diffusion": _denoiser, "autoencoder": _autoencoder, "text_encoder": _towers,
    }[case.config.stage]  # fmt: skip
    try:
        with torch.device("meta"):
            passing(case)
    except ValueError:  # in words
        raise
    except Exception as error:  # of whatever network: numbers, or a forward of another kind
        return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
    return None


def _denoiser(case: Case) -> None:
    network: Any = case.network
    settings = case.config.backbone
    side = 8 * getattr(network, "stride", 1)
    x = torch.zeros(1, settings.in_channels, side, side)
    width, wide = settings.get("context_dim"), settings.get("vector_dim")
    tokens = None if width is None else torch.zeros(1, _TOKENS, width)
    vector = None if wide is None else torch.zeros(1, wide)
    network(x, torch.zeros(1), Condition(tokens=tokens, vector=vector)).sum().backward()


def _autoencoder(case: Case) -> None:
    network: Any = case.network
    config = case.config
    image = torch.zeros(1, config.autoencoder.image_channels, config.size, config.size)
    code = network.encode(image)
    network.decode(network.regularizer.mode(code)).sum().backward()
    if config.discriminator:
        build(config.discriminator)(image).sum().backward()


def _towers(case: Case) -> None:
    settings = case.config.text_encoder
    side = settings.vision.image_size
    ids = torch.zeros(2, settings.text.context_length, dtype=torch.int64)
    pictures, texts, _ = case.network(torch.zeros(2, 3, side, side), ids)
    (pictures * texts).sum().backward()
