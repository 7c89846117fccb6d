"""The settings of a model in a single file: in its metadata, or as far as its tensors show them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ldm.diffusion.prediction import Prediction
from ldm.interop.compvis import config, text
from ldm.interop.compvis.layouts import Layout, layout_for
from ldm.interop.compvis.process import inferred_scheduler
from ldm.interop.condition_encoders import TEXT_ENCODERS
from ldm.interop.config_values import COUNTS, TEXTS, require
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, their_prediction
from ldm.interop.pipeline import INDEX
from ldm.interop.transformers_tokenizer import read_pad_id

METADATA = "ldm_config"  # the key, with JSON as its value
_TEXT = {"hidden_act": "quick_gelu", "num_attention_heads": 8, "pad_token_id": 49407}
_SHOWN_BY_NO_TENSOR: dict[str, dict[str, Any]] = {  # with what diffusers and transformers assume
    "unet": {"attention_head_dim": 8, "norm_num_groups": 32},
    "vae": {"norm_num_groups": 32},
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
    "index": {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False},
}

Configs = dict[str, dict[str, Any]]  # the config files of a folder, by its parts
Parts = dict[str, dict[str, Tensor]]  # the tensors of each network, by the file's names


def described(folder: Path) -> tuple[Layout, Configs]:
    """The layout for the model of a folder, and its settings; ValueError where there is none."""
    texts = [part for part in TEXT_ENCODERS if (folder / part).is_dir()]
    configs = {part: read(folder / part / CONFIG) for part in ("unet", "vae", *texts)}
    for part in texts:  # of a tower, the tokenizer's counts
        configs[part]["pad_token_id"] = read_pad_id(folder / TEXT_ENCODERS[part])
    linear = bool(configs["unet"].get("use_linear_projection", False))
    layout = layout_for(texts, linear_projection=linear)
    configs["scheduler"] = read(folder / "scheduler" / SCHEDULER_CONFIG)
    index = read(folder / INDEX)
    configs["index"] = {k: index[k] for k in _SHOWN_BY_NO_TENSOR["index"] if k in index}
    unet, predicted = configs["unet"], configs["scheduler"].get("prediction_type", "epsilon")
    found = {
        "backbone.pooling_heads": unet.get("addition_embed_type") == "text",
        "backbone.adaptive_norm": unet.get("resnet_time_scale_shift", "default") != "default",
        "prediction": predicted not in ("epsilon", "v_prediction"),
        "schedule": "beta_schedule" not in configs["scheduler"],
    }
    for setting, present in found.items():
        if present:
            raise ValueError(
                f"the setting {setting}= of this model has no place in the layout of single files, "
                f"which other programs take for {layout.name}. Export it with format=diffusers."
            )
    return layout, configs


def configs_of(
    file: Path,
    parts: Parts,
    state: Mapping[str, Tensor],
    layout: Layout,
    prediction: Prediction | None,
) -> Configs:
    """The settings that ``pack`` left in a file, or those that its tensors show."""
    if (configs := _metadata(file, layout)) is None:
        configs = _inferred(parts, inferred_scheduler(state, layout, prediction=prediction), layout)
        if "scale_factor" in state:  # measured at the start of training, where it was
            configs["vae"]["scaling_factor"] = float(state["scale_factor"])
        return configs
    says = configs["scheduler"].get("prediction_type")
    if prediction is not None and says != their_prediction(prediction):
        raise ValueError(f"its settings say prediction_type {says}; leave prediction= out.")
    return configs


_LISTS = {"block_out_channels": COUNTS, "down_block_types": TEXTS, "up_block_types": TEXTS}


def unseen(configs: Configs, parts: Parts, layout: Layout) -> list[str]:
    """What a program that sees the tensors only takes to be otherwise, in clauses."""
    seen, found = _inferred(parts, configs["scheduler"], layout), []
    for part, names in _SHOWN_BY_NO_TENSOR.items():
        for name, default in names.items() if part in configs else ():
            has = configs[part].get(name, default)
            levels = len(configs[part].get("block_out_channels", []))
            has = [has] * levels if name == "attention_head_dim" and isinstance(has, int) else has
            if has != (taken := seen[part].get(name, default)):
                found.append(f"{part}: {name} {has} (taken for {taken})")
    return found


def _inferred(parts: Parts, scheduler: dict[str, Any], layout: Layout) -> Configs:
    """What a program takes the model for that sees its tensors only."""
    size_px = layout.size_px(scheduler.get("prediction_type", "epsilon"))
    configs = {
        "unet": config.unet_config(parts["unet"], size_px=size_px),
        "vae": config.autoencoder_config(
            parts["vae"], size_px=size_px, scaling_factor=layout.scaling_factor
        ),
        "scheduler": scheduler,
        "index": dict(layout.index),
    }
    for tower in layout.text:
        configs[tower.part] = config.text_config(
            text.to_folder(parts[tower.part], tower), is_openai=not tower.is_open_clip
        )
        configs[tower.part]["pad_token_id"] = tower.pad_id
    return configs


def _metadata(file: Path, layout: Layout) -> Configs | None:
    """The settings that ``pack`` left in a file; None in those of others."""
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA)
    if text is None:
        return None
    try:
        configs = json.loads(text)
        found = {part: dict(configs[part]) for part in (*layout.prefixes, "scheduler")}
        for part in ("unet", "vae"):  # the names of the tensors depend on these
            require(part, found[part], {"layers_per_block": COUNTS})
            for key in ("block_out_channels", "down_block_types", "up_block_types"):
                require(part, {key: found[part].get(key)}, {key: _LISTS[key]})
        return found | {"index": dict(layout.index) | configs.get("index", {})}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its metadata {METADATA} is damaged ({error}).") from error
