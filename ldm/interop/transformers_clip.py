"""A CLIP pair in transformers' layout, as open_clip's settings and names.

The map of names is exact; embeddings of pictures and captions agree to rounding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ldm.features.prepared import Preprocessing
from ldm.interop.config_values import COUNT, POSITIVE, TEXT, require
from ldm.interop.diffusers_files import read
from ldm.interop.transformers import PREFIX, text_settings, to_ours, tower_settings

PREPROCESSOR = "preprocessor_config.json"

# What transformers' config.json of an image tower may leave out.
_VISION: dict[str, Any] = {
    "image_size": 224, "patch_size": 32, "hidden_size": 768, "num_attention_heads": 12,
    "num_hidden_layers": 12, "intermediate_size": 3072, "num_channels": 3,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_VISION_KINDS = {
    **{key: COUNT for key, default in _VISION.items() if isinstance(default, int)},
    "hidden_act": TEXT, "layer_norm_eps": POSITIVE,
}  # fmt: skip
# Its names for what is not in the blocks -> open_clip's.
_VISION_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
# What a preprocessor_config.json may leave out: of all of OpenAI's and most of LAION's models.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def pair_config(config: Mapping[str, Any], *, origin: Path) -> dict[str, Any]:
    """open_clip's settings of a pair from the config.json of a CLIPModel, which is ``origin``.

    ValueError where it describes something else, or a setting is not supported.
    """
    if (kind := config.get("model_type")) != "clip":
        raise ValueError(f"{origin} describes a {kind!r}; only a pair of model_type clip is read.")
    require(origin, config, {"projection_dim": COUNT})
    # Older files have a second spelling, which goes first in transformers, too.
    given = [
        {**(config.get(f"{part}_config") or {}), **(config.get(f"{part}_config_dict") or {})}
        for part in ("text", "vision")
    ]
    text = text_settings(given[0], origin=origin)
    vision = tower_settings(given[1], _VISION, _VISION_KINDS, origin=origin)
    if text["hidden_act"] != vision["hidden_act"] or vision["num_channels"] != 3:
        raise ValueError(
            f"{origin}: towers of different activations (hidden_act), or of other than 3 channels, "
            "are not supported."
        )
    return {
        "embed_dim": config.get("projection_dim", 512),
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
        "quick_gelu": text["hidden_act"] == "quick_gelu",
    }


def pair_to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names of a pair as open_clip's."""
    parts: dict[str, dict[str, Tensor]] = {PREFIX: {}, "vision_model.": {}}
    for name, value in state.items():
        for prefix, part in parts.items():
            if name.startswith(prefix) and not name.endswith("position_ids"):
                part[name.removeprefix(prefix)] = value
    ours = to_ours(parts[PREFIX])
    vision = to_ours(parts["vision_model."])  # the blocks of both towers have the same names
    ours |= {f"visual.{_VISION_NAMES.get(name, name)}": value for name, value in vision.items()}
    for theirs, name in (("text", "text_projection"), ("visual", "visual.proj")):
        if (projection := state.get(f"{theirs}_projection.weight")) is not None:
            ours[name] = projection.T.contiguous()
    return ours | ({"logit_scale": state["logit_scale"]} if "logit_scale" in state else {})


def preprocessing(file: Path, image_size: int) -> Preprocessing:
    """What transformers' CLIPImageProcessor does; ValueError where that is something else."""
    if not file.is_file():
        raise ValueError(
            f"{file} is missing; it says how pictures are resized and normalised. It is published "
            "beside the weights: copy it there."
        )
    config = read(file)
    size = config.get("size", 224)
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    crop = config.get("crop_size", image_size)
    crop = (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
    expected = (image_size, image_size)
    plain = all(config.get(f"do_{step}", True) for step in ("resize", "center_crop", "normalize"))
    if not plain or edge != image_size or crop != expected:
        raise ValueError(
            f"{file}: pictures must be resized to {image_size} px at their shorter side, cropped "
            "to a square at the centre, and normalised; other preparations are not supported."
        )
    return Preprocessing(
        size=expected,
        mean=tuple(config.get("image_mean", OPENAI_MEAN)),
        std=tuple(config.get("image_std", OPENAI_STD)),
        interpolation=Image.Resampling(config.get("resample", 3)).name.lower(),
        shape="crop",
    )
