"""Numbers inside a network that must divide each other, and widths that must agree."""

from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import Any

from ldm.apps.rules.case import Case

_MOST_SHOWN = 8


def groups_divide_channels(case: Case) -> Iterator[str]:
    """Group norms of UNet and autoencoder: ``groups`` divides each level's channels."""
    name, part = case.part, case.config[case.part]
    channels, groups = _levels(part, "channels"), part.get("groups")
    if groups and any(width % groups for width in channels):
        yield (
            f"{name}.groups={groups} does not divide {name}.channels={channels}; choose "
            f"{name}.groups={_or(_divisors(gcd(*channels)))}, or other channels."
        )


def _levels(part: Mapping[str, Any], name: str) -> list[Any]:
    """A network's setting by level; none where it is another thing, as in a network of a user's."""
    found = part.get(name)
    return [*found] if isinstance(found, Sequence) and not isinstance(found, str) else []


def heads_divide_channels(case: Case) -> Iterator[str]:
    """Attention: ``heads`` of a level divide its channels; the middle takes the last level's."""
    part = case.config.get("backbone") or {}
    channels, heads, attends = (_levels(part, name) for name in ("channels", "heads", "attention"))
    if not len(channels) == len(heads) == len(attends):
        return  # the network says it of itself
    for level, (width, count) in enumerate(zip(channels, heads, strict=True)):
        if (attends[level] or level == len(channels) - 1) and width % count:
            allowed = _divisors(width)
            fitting = [*heads[:level], max(d for d in allowed if d <= count), *heads[level + 1 :]]
            yield (
                f"backbone.heads={heads}: {count} heads do not divide the {width} channels of "
                f"level {level}; choose {_or(allowed)}, as in backbone.heads={_typed(fitting)}."
            )
    width, pooling = part.get("context_dim"), part.get("pooling_heads")
    if width and pooling and width % pooling:
        yield (
            f"backbone.pooling_heads={pooling} does not divide backbone.context_dim={width}; "
            f"choose {_or(_divisors(width))}, or null."
        )


def latents_in_and_out(case: Case) -> Iterator[str]:
    """A denoiser gives back as many channels as its latents have."""
    part = case.config.backbone
    into, out = part.get("in_channels"), part.get("out_channels")
    if None in (into, out):
        yield (
            "a backbone is given the channels of its latents by in_channels= and out_channels=, "
            f"and {part._target_} is configured without; take both, of one number, as its settings."
        )
    elif into == out:
        return
    elif into > out:  # as in inpainting, which has samples here and no training
        yield (
            f"backbone.in_channels={into} and backbone.out_channels={out}: the further channels "
            "would hold a picture to go on from, which `ldm train` does not make. Set "
            f"backbone.in_channels={out}, or sample with such a model after `ldm import`."
        )
    else:
        yield (
            f"backbone.in_channels={into} and backbone.out_channels={out}: both are the channels "
            f"of the latents. Set backbone.in_channels={out} or backbone.out_channels={into}."
        )


def can_be_written(case: Case) -> Iterator[str]:
    """A network that models have a place for: it is known what files of others look like."""
    from ldm.backbones.unet import UNet

    if not isinstance(case.network, UNet):
        yield (
            f"{case.config.backbone._target_} can be planned, and not trained yet: models are "
            "written as ldm/interop/diffusers_unet.py says, which knows ldm.backbones.unet.UNet "
            "alone; teach it to write and read this network too."
        )


def towers(case: Case) -> Iterator[str]:
    """CLIP towers: heads divide widths, patches divide pictures, the vocabulary is CLIP's."""
    from ldm.text.tokenizer import VOCABULARY_SIZE

    tower = case.config.text_encoder
    text, vision = tower.get("text") or {}, tower.get("vision") or {}
    for name, width, parts, what in (
        ("text.heads", text.get("width"), text.get("heads"), "text.width"),
        ("vision.patch_size", vision.get("image_size"), vision.get("patch_size"), "image_size"),
    ):
        if width and parts and width % parts:
            yield (
                f"text_encoder.{name}={parts} does not divide text_encoder.{what}={width}; choose "
                f"text_encoder.{name}={_or(_divisors(width))}."
            )
    width, head = vision.get("width"), vision.get("head_width", 64)
    is_transformer = isinstance(vision.get("layers", 12), int)  # a residual network's pools only
    if width and is_transformer and (width < head or width % (width // head)):
        yield (
            f"text_encoder.vision.head_width={head} cuts text_encoder.vision.width={width} into "
            f"heads of no equal width; choose text_encoder.vision.head_width="
            f"{_or(_divisors(width))}."
        )
    words = text.get("vocab_size", VOCABULARY_SIZE)
    if words != VOCABULARY_SIZE:
        yield (
            f"text_encoder.text.vocab_size={words}, but CLIP's tokenizer has {VOCABULARY_SIZE:,} "
            f"tokens; set text_encoder.text.vocab_size={VOCABULARY_SIZE}."
        )


def one_tower_at_a_time(case: Case) -> Iterator[str]:
    """Stable Diffusion XL's two towers are no network of stage text_encoder."""
    if "text_encoder_2" in case.config.text_encoder:
        yield (
            "text_encoder=sdxl is two towers, which learn one by one: train "
            "text_encoder=clip_vit_l14 and text_encoder=openclip_vit_bigg14, each with a run= of "
            "its own, then give both to `ldm cache text_run=[A,B]`."
        )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _or(numbers: Sequence[int]) -> str:
    # The largest ones: a network of one group or head is hardly meant.
    shown = [str(number) for number in numbers[-_MOST_SHOWN:]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _typed(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"
