"""What a denoiser's configuration does not name: its autoencoder, its text encoder, its latents."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import build
from ldm.apps.compose import compose
from ldm.apps.config_files import config_root
from ldm.apps.errors import UserError, suggestion
from ldm.data.latents.cache import KIND, LatentCache
from ldm.manifest import known_manifest

_BY_WIDTH = {  # of the backbone's context -> the published text encoder of that width
    768: "clip_vit_l14",
    1024: "openclip_vit_h14",
    2048: "sdxl",
}
_SHAPES = 3  # of a cache's buckets are looked at
_CAPTION = 77  # ids of a caption of CLIP


@dataclass(frozen=True)
class Companions:
    """The networks that make a denoiser's inputs, and the shapes of these."""

    autoencoder: DictConfig | None = None
    text_encoder: DictConfig | None = None  # None: classes or nothing condition it
    in_step: bool = True  # the text encoder computes in training, for it was not done before
    tokens: int = 0  # of a condition
    latents: dict[tuple[int, int], int] = field(default_factory=dict)  # height, width -> samples
    images: int | None = None  # of the data, where that is there
    said: tuple[str, ...] = ()  # what was assumed, and what was found


def companions(
    config: DictConfig, *, autoencoder: str | None, text_encoder: str | None, experiment: str | None
) -> Companions:
    """Those of a configuration of any stage, by its data, or else by name, or else assumed.

    ``autoencoder`` and ``text_encoder`` name shipped configurations, ``experiment`` the
    configuration itself. UserError where a name is unknown.
    """
    siblings = dict(_siblings(config, experiment))
    if config.stage != "diffusion":
        # The perceptual distance of an own image tower is the only use of another network.
        own = config.stage == "autoencoder" and config.perceptual == "own"
        node = _shipped("text_encoder", text_encoder, config) if text_encoder else None
        return Companions(text_encoder=(node or siblings.get("text_encoder")) if own else None)
    said: list[str] = []
    first = _node("autoencoder", autoencoder, siblings, "kl_f8", config, said)
    assert first is not None
    if autoencoder is not None and first.latent_channels != config.backbone.get("out_channels"):
        raise UserError(
            f"latents_by={autoencoder} makes latents of {first.latent_channels} channels, and the "
            f"backbone gives {config.backbone.get('out_channels')}; name another, or set "
            f"backbone.out_channels={first.latent_channels}."
        )
    text, tokens = _text(config, text_encoder, siblings, said)
    side = _side(config, first, autoencoder, said)
    found = Companions(first, text, tokens=tokens, latents={(side, side): 1}, said=tuple(said))
    return _of_data(config, found)


def _side(config: DictConfig, first: DictConfig, name: str | None, said: list[str]) -> int:
    """Of the latents; UserError where an autoencoder that was named cannot make them."""
    stride, multiple = stride_of(first), stride_of(config.backbone)
    exact = config.size / stride / multiple
    if exact.is_integer():
        return config.size // stride
    if name is not None:
        raise UserError(
            f"size={config.size} does not divide by {stride * multiple}, the strides of "
            f"latents_by={name} and of the backbone; choose a multiple, or another autoencoder."
        )
    side = math.ceil(exact) * multiple
    said.append(f"latents: of {side} x {side}, for size={config.size} does not fit what is assumed")
    return side


def _text(
    config: DictConfig, name: str | None, siblings: dict[str, DictConfig], said: list[str]
) -> tuple[DictConfig | None, int]:
    """The text encoder, None without one, and how many tokens it gives."""
    width = config.backbone.get("context_dim")
    if width is None:
        return None, 0
    text = _node("text_encoder", name, siblings, _BY_WIDTH.get(width), config, said)
    if text is not None and (found := _width(text)) != width:
        if name is not None:
            raise UserError(
                f"captions_by={name} gives tokens of {found}, and backbone.context_dim={width}; "
                f"name another, or set backbone.context_dim={found}."
            )
        said.append(f"text_encoder: none known of width {width}, so it is not counted")
        return None, _caption_length(text)
    if text is None:
        said.append(f"condition: one token of {width}, learned (classes); no text encoder")
        return None, 1
    return text, _caption_length(text)


def _width(node: DictConfig) -> int:
    if "text" in node:
        return int(node.text.width)
    return sum(int(node[part].width) for part in ("text_encoder", "text_encoder_2"))


def stride_of(node: DictConfig) -> int:
    """What the sides of a network's pictures or latents are divided by; 1 where it says nothing."""
    with torch.device("meta"):
        return int(getattr(build(node), "stride", 1))


def latents_of(config: DictConfig) -> LatentCache | None:
    """The latent cache of ``data.root``, where a finished one is there."""
    root = Path(str(config.data.root))
    made = known_manifest(root) if (root / "manifest.json").is_file() else None
    return LatentCache(root) if made is not None and made.kind == KIND else None


def shapes_of(cache: LatentCache) -> dict[tuple[int, int], int]:
    """Samples of a cache by height and width of their latents, of its commonest shapes.

    Buckets have about the same area, so a few stand for all.
    """
    found = {
        (shape[1], shape[2]): count for shape, count in zip(cache.shapes, cache.counts, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: -item[1])[:_SHAPES])


def _of_data(config: DictConfig, found: Companions) -> Companions:
    cache = latents_of(config)
    if cache is None:
        return found
    if cache.size_px != config.size:
        other = f"{cache.root} holds latents of {cache.size_px} px, so they are not looked at"
        return replace(found, said=(*found.said, other))
    said = (*found.said, f"latents, their shapes and their number: {cache.root}")
    ids = cache.arrays[0]["ids"]
    if cache.manifest.settings.get("condition", "text") != "text":
        found = replace(found, text_encoder=None)
    return replace(
        found,
        in_step=not cache.has_features,
        tokens=ids.shape[-1] if ids.ndim > 1 else 0,
        latents=shapes_of(cache),
        images=len(cache),
        said=said,
    )


def _siblings(config: DictConfig, experiment: str | None) -> Iterator[tuple[str, DictConfig]]:
    """The other stages' networks where an experiment is one of three, as those of a recipe."""
    family, _, stage = (experiment or "").rpartition("_")
    if stage not in ("diffusion", "autoencoder"):
        return
    name = f"{family}_text_encoder" if stage == "autoencoder" else ""
    names = {"text_encoder": name or f"{family}_text_encoder"}
    if stage == "diffusion":
        names["autoencoder"] = f"{family}_autoencoder"
    for part, sibling in names.items():
        if (config_root() / "experiment" / f"{sibling}.yaml").is_file():
            words = [f"experiment={sibling}", "data.root=DATA", f"size={config.size}"]
            yield part, compose("train", words)[part]


def _node(
    part: str,
    name: str | None,
    siblings: dict[str, DictConfig],
    usual: str | None,
    config: DictConfig,
    said: list[str],
) -> DictConfig | None:
    if name is not None:
        return _shipped(part, name, config)
    if part in siblings:
        said.append(f"{part}: that of the same recipe")
        return siblings[part]
    if usual is None:
        return None
    key = {"autoencoder": "latents_by", "text_encoder": "captions_by"}[part]
    said.append(f"{part}: {usual}, assumed; another by {key}=NAME")
    return _shipped(part, usual, config)


def _shipped(part: str, name: str, config: DictConfig) -> DictConfig:
    folder = config_root() / part
    if not (folder / f"{name}.yaml").is_file():
        known = [path.stem for path in folder.glob("*.yaml")]
        raise UserError(
            f"{name!r} is no {part.replace('_', ' ')} that is shipped. {suggestion(name, known)}"
        )
    whole = OmegaConf.create({"size": config.size, part: OmegaConf.load(folder / f"{name}.yaml")})
    OmegaConf.resolve(whole)
    return whole[part]


def _caption_length(node: DictConfig) -> int:
    tower = node.get("text") or node.get("text_encoder") or {}
    return int(tower.get("context_length", _CAPTION))
