"""A whole model in one file, as CompVis and Stability laid it out and web UIs load it, and back.

Both ways go between the file and a folder in diffusers' layout. Tensors are only renamed, so
nothing is lost on the way. The settings, which the layouts have no place for, travel in the
file's metadata; files without are taken to be of the published models' kinds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.interop import compvis_averages, compvis_config, compvis_text
from ldm.interop.compvis_foreign import kind_of_file
from ldm.interop.compvis_layouts import Layout, layout_for, layout_of_file
from ldm.interop.compvis_names import (
    autoencoder_table,
    convolutional,
    inverted,
    linear,
    renamed,
    unet_table,
    upsamplers,
)
from ldm.interop.compvis_process import NAMES, inferred_scheduler, unseen_process, written
from ldm.interop.condition_encoders import TEXT_ENCODERS
from ldm.interop.diffusers_files import CONFIG, WEIGHTS, read, read_weights
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, read_schedule
from ldm.interop.pipeline import INDEX
from ldm.interop.transformers import WEIGHTS as TEXT_WEIGHTS
from ldm.interop.transformers_tokenizer import read_pad_id, write_tokenizer
from ldm.interop.weight_files import read_files
from ldm.manifest import atomic, write_json
from ldm.weights import load_state_dict

METADATA = "ldm_config"
WEIGHTS_OF = {
    "unet": WEIGHTS, "vae": WEIGHTS, "text_encoder": TEXT_WEIGHTS, "text_encoder_2": TEXT_WEIGHTS,
}  # fmt: skip
_TEXT = {"hidden_act": "quick_gelu", "num_attention_heads": 8}
_SHOWN_BY_NO_TENSOR: dict[str, dict[str, Any]] = {  # with what diffusers and transformers assume
    "unet": {"attention_head_dim": 8, "norm_num_groups": 32},
    "vae": {"norm_num_groups": 32},
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
    "index": {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False},
}
# Of full checkpoints: averages beside the weights, the loss' networks, constants.
_LEFT_OUT = (compvis_averages.PREFIX, "first_stage_model.loss.", "scale_factor", "logvar")

Configs = dict[str, dict[str, Any]]
Parts = dict[str, dict[str, Tensor]]


def pack(folder: str | Path, file: str | Path) -> list[str]:
    """Write the model of a folder that ``export_pipeline`` or diffusers wrote as one file.

    Returns what no tensor shows and readers take to be otherwise: a program that is not told
    computes something else. ValueError naming the setting where the layout has no place for it.
    """
    folder = Path(folder)
    layout, configs = _described(folder)
    parts: Parts = {}
    for part in ("unet", "vae"):
        parts[part], unknown = renamed(read_weights(folder / part), _table(part, configs[part]))
        assert not unknown, unknown  # of a folder that our reader accepts
    parts["vae"] = convolutional(parts["vae"])
    for tower in layout.text:
        found = read_files(folder / tower.part, TEXT_WEIGHTS)
        parts[tower.part] = compvis_text.to_file(found, tower)
    state = {layout.prefixes[p] + k: v for p, tensors in parts.items() for k, v in tensors.items()}
    schedule, _ = read_schedule(folder / "scheduler")
    alpha_bar = schedule.alpha(torch.arange(schedule.num_steps)).square()
    state |= written(configs["scheduler"], layout, alpha_bar)
    metadata = {"format": "pt", METADATA: json.dumps(configs, sort_keys=True)}
    with atomic(file) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata=metadata)
    unseen = _unseen(configs, _inferred(parts, configs["scheduler"], layout))
    return unseen + unseen_process(configs["scheduler"], layout, alpha_bar)


def unpack(
    file: str | Path,
    folder: str | Path,
    *,
    weights: str | None = None,
    prediction: str | None = None,
) -> list[str]:
    """Write the model of a single file as a folder that ``read_pipeline`` reads.

    ``weights`` chooses where a checkpoint has two sets: "ema" are the averages, "raw" those of the
    last step; None takes the averages where there are some. ``prediction`` (epsilon or v) is what
    the denoiser predicts where the file does not say it. Returns what was taken, in sentences.
    ValueError naming the keys that are unknown, and the parts that are missing; a pickle that holds
    more than tensors is refused.
    """
    file, folder = Path(file), Path(folder)
    state = load_state_dict(file)
    layout = layout_of_file(state)
    parts, unknown = _parts(state, layout)
    missing = [f"{p} ({layout.prefixes[p]}*)" for p, tensors in parts.items() if not tensors]
    if missing:
        kind = kind_of_file(state)
        what = f"is {kind}" if kind else f"holds no {', no '.join(missing)}: it is no whole model"
        raise ValueError(f"{file} {what}.")
    try:
        parts["unet"], said = compvis_averages.chosen(parts["unet"], state, weights)
        configs = _configs(file, parts, state, layout, prediction)
        written = {t.part: compvis_text.to_folder(parts[t.part], t) for t in layout.text}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    parts["vae"] = linear(parts["vae"])
    for part in ("unet", "vae"):
        table = inverted(_table(part, configs[part]))
        written[part], extra = renamed(parts[part], table)
        unknown += [layout.prefixes[part] + name for name in extra]
    if unknown:
        shown = ", ".join(sorted(unknown)[:12]) + (", ..." if len(unknown) > 12 else "")
        raise ValueError(
            f"{file} has {len(unknown)} tensors that have no place in a model of {layout.name}'s "
            f"kind ({shown}); it computes something that our networks do not, so it cannot be read."
        )
    _write_folder(folder, layout, configs, written)
    return said


def _described(folder: Path) -> tuple[Layout, Configs]:
    """The layout for the model of a folder, and its settings; ValueError where there is none."""
    texts = [part for part in TEXT_ENCODERS if (folder / part).is_dir()]
    pads = {part: read_pad_id(folder / TEXT_ENCODERS[part]) for part in texts}
    layout = layout_for(texts, pad_id=pads[texts[0]])
    configs = {part: read(folder / part / CONFIG) for part in layout.prefixes}
    configs["scheduler"] = read(folder / "scheduler" / SCHEDULER_CONFIG)
    index = read(folder / INDEX)
    configs["index"] = {k: index[k] for k in _SHOWN_BY_NO_TENSOR["index"] if k in index}
    unet, predicted = configs["unet"], configs["scheduler"].get("prediction_type", "epsilon")
    found = {
        "backbone.pooling_heads": unet.get("addition_embed_type") == "text",
        "backbone.adaptive_norm": unet.get("resnet_time_scale_shift", "default") != "default",
        "prediction": predicted not in ("epsilon", "v_prediction"),
        "schedule": "beta_schedule" not in configs["scheduler"],
        "text_encoder.pad_id": any(pads[tower.part] != tower.pad_id for tower in layout.text),
    }
    for setting, present in found.items():
        if present:
            raise ValueError(
                f"the setting {setting}= of this model has no place in the layout of single files, "
                f"which other programs take for {layout.name}. Export it with format=diffusers."
            )
    return layout, configs


def _configs(
    file: Path, parts: Parts, state: Mapping[str, Tensor], layout: Layout, prediction: str | None
) -> Configs:
    """The settings that ``pack`` left in a file, or those that its tensors show."""
    if (configs := _metadata(file, layout)) is None:
        return _inferred(parts, inferred_scheduler(state, layout, prediction=prediction), layout)
    says = configs["scheduler"].get("prediction_type")
    if prediction is not None and says != ("v_prediction" if prediction == "v" else prediction):
        raise ValueError(f"its settings say prediction_type {says}; leave prediction= out.")
    return configs


def _inferred(parts: Parts, scheduler: dict[str, Any], layout: Layout) -> Configs:
    """What a program takes the model for that sees its tensors only."""
    size_px = layout.size_px(scheduler.get("prediction_type", "epsilon"))
    configs = {
        "unet": compvis_config.unet_config(parts["unet"], size_px=size_px),
        "vae": compvis_config.autoencoder_config(
            parts["vae"], size_px=size_px, scaling_factor=layout.scaling_factor
        ),
        "scheduler": scheduler,
        "index": dict(layout.index),
    }
    for tower in layout.text:
        configs[tower.part] = compvis_config.text_config(
            compvis_text.to_folder(parts[tower.part], tower), is_openai=not tower.is_open_clip
        )
    return configs


def _unseen(configs: Configs, seen: Configs) -> list[str]:
    found = []
    for part, names in _SHOWN_BY_NO_TENSOR.items():
        for name, default in names.items() if part in configs else ():
            has = configs[part].get(name, default)
            levels = len(configs[part].get("block_out_channels", []))
            has = [has] * levels if name == "attention_head_dim" and isinstance(has, int) else has
            if has != (taken := seen[part].get(name, default)):
                found.append(f"{part}: {name} {has} (taken for {taken})")
    return found


def _parts(state: Mapping[str, Tensor], layout: Layout) -> tuple[Parts, list[str]]:
    """The tensors of each network, without its prefix; and the names of no network."""
    parts: Parts = {part: {} for part in layout.prefixes}
    unknown = []
    for name, value in state.items():
        part = next((k for k, prefix in layout.prefixes.items() if name.startswith(prefix)), None)
        if part is not None and not name.startswith(_LEFT_OUT):
            parts[part][name.removeprefix(layout.prefixes[part])] = value
        elif name not in NAMES and not name.startswith(_LEFT_OUT):
            unknown.append(name)
    return parts, unknown


def _table(part: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Names of a network with this config.json."""
    levels, layers = len(config["block_out_channels"]), config.get("layers_per_block", 2)
    layers = layers[0] if isinstance(layers, list) else layers
    if part == "vae":
        return autoencoder_table(levels, layers)
    attention = ["Attn" in block for block in config["up_block_types"]]
    return unet_table(levels, layers) | upsamplers(levels, layers, attention)


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
        return found | {"index": dict(layout.index) | configs.get("index", {})}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its metadata {METADATA} is damaged ({error}).") from error


def _write_folder(folder: Path, layout: Layout, configs: Configs, weights: Parts) -> None:
    index: dict[str, Any] = {**configs["index"], "scheduler": ["diffusers", "DDIMScheduler"]}
    index |= {name: [None, None] for part in TEXT_ENCODERS for name in (part, TEXT_ENCODERS[part])}
    for part, tensors in weights.items():
        write_json(folder / part / CONFIG, configs[part])
        file = folder / part / WEIGHTS_OF[part]
        save_file({k: v.contiguous() for k, v in tensors.items()}, file, metadata={"format": "pt"})
        index[part] = ["diffusers", configs[part].get("_class_name")]
    for tower in layout.text:
        length = configs[tower.part].get("max_position_embeddings", 77)
        tokenizer = TEXT_ENCODERS[tower.part]
        write_tokenizer(folder / tokenizer, context_length=length, pad_id=tower.pad_id)
        kind = "CLIPTextModelWithProjection" if tower.has_projection else "CLIPTextModel"
        index |= {tower.part: ["transformers", kind], tokenizer: ["transformers", "CLIPTokenizer"]}
    write_json(folder / "scheduler" / SCHEDULER_CONFIG, configs["scheduler"])
    write_json(folder / INDEX, index)
