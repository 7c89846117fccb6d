"""A whole model in one file, as CompVis' code laid it out and web UIs load it, and back.

Both ways go between the file and a folder in diffusers' layout. Tensors are only renamed, so
nothing is lost on the way. The settings, which the layout has no place for, travel in the
file's metadata; files without are taken to be of Stable Diffusion 1's kind.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.interop import compvis_config
from ldm.interop.compvis_names import (
    AUTOENCODER_PREFIX,
    TEXT_PREFIX,
    UNET_PREFIX,
    Table,
    autoencoder_table,
    convolutional,
    inverted,
    linear,
    renamed,
    unet_table,
    upsamplers,
)
from ldm.interop.diffusers import SCHEDULER_CONFIG, read_schedule
from ldm.interop.diffusers_files import CONFIG, WEIGHTS, read, read_weights
from ldm.interop.pipeline import INDEX, INPAINTING_CHANNELS
from ldm.interop.transformers import PREFIX
from ldm.interop.transformers import WEIGHTS as TEXT_WEIGHTS
from ldm.interop.transformers_tokenizer import read_pad_id
from ldm.manifest import atomic, write_json
from ldm.text.tokenizer import END_OF_TEXT
from ldm.weights import load_state_dict

METADATA = "ldm_config"
FILES = {
    "unet": CONFIG, "vae": CONFIG, "text_encoder": CONFIG, "scheduler": SCHEDULER_CONFIG,
}  # fmt: skip
_BUFFERS = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
)  # fmt: skip
_SHOWN_BY_NO_TENSOR: dict[str, dict[str, Any]] = {  # with what diffusers and transformers assume
    "unet": {"attention_head_dim": 8, "norm_num_groups": 32},
    "vae": {"norm_num_groups": 32},
    "text_encoder": {"hidden_act": "quick_gelu", "num_attention_heads": 8},
}
# Of full checkpoints: averages beside the weights, the loss' networks, constants.
_LEFT_OUT = ("model_ema.", "first_stage_model.loss.", "scale_factor", "logvar")
_ELSEWHERE = {
    "cond_stage_model.model.": "the text tower of Stable Diffusion 2 (open_clip's names)",
    "conditioner.": "the text towers of Stable Diffusion XL",
    "model.diffusion_model.label_emb.": "the vector condition of Stable Diffusion XL",
}


def pack(folder: str | Path, file: str | Path) -> list[str]:
    """Write the model of a folder that ``export_pipeline`` or diffusers wrote as one file.

    Returns the settings that no tensor shows and that are not Stable Diffusion 1's: a program
    that does not know them computes something else. ValueError naming the setting where the
    layout has no place for it.
    """
    folder = Path(folder)
    configs = {part: read(folder / part / name) for part, name in FILES.items()}
    _require_layout(configs, pad_id=read_pad_id(folder / "tokenizer"))
    state: dict[str, Tensor] = {}
    for part, prefix in (("unet", UNET_PREFIX), ("vae", AUTOENCODER_PREFIX)):
        table = _table(part, configs[part])
        found, unknown = renamed(read_weights(folder / part), table)
        assert not unknown, unknown  # of a folder that our reader accepts
        found = convolutional(found) if part == "vae" else found
        state |= {prefix + name: value for name, value in found.items()}
    text = load_state_dict(folder / "text_encoder" / TEXT_WEIGHTS)
    state |= {TEXT_PREFIX + PREFIX + k.removeprefix(PREFIX): v for k, v in text.items()}
    schedule, _ = read_schedule(folder / "scheduler")
    alpha = schedule.alpha(torch.arange(schedule.num_steps))
    state |= _buffers(alpha.square())
    metadata = {"format": "pt", METADATA: json.dumps(configs, sort_keys=True)}
    with atomic(file) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata=metadata)
    return _unseen(configs, _inferred(_parts(state)[0], state["betas"]))


def unpack(file: str | Path, folder: str | Path) -> None:
    """Write the model of a single file as a folder that ``read_pipeline`` reads.

    Of checkpoints with averaged weights beside the trained ones, the latter are taken. ValueError
    naming the keys that are unknown, and the parts that are missing; a pickle that holds more
    than tensors is refused.
    """
    file, folder = Path(file), Path(folder)
    state = load_state_dict(file)
    for prefix, what in _ELSEWHERE.items():
        if any(name.startswith(prefix) for name in state):
            raise ValueError(
                f"{file} has {what} ({prefix}*); only models with Stable Diffusion 1's text tower "
                "can be read from one file. Use the same model's folder in diffusers' layout."
            )
    betas = state.get("betas")
    parts, unknown = _parts(state)
    missing = [f"{part} ({prefix}*)" for part, (prefix, found) in parts.items() if not found]
    if missing:
        raise ValueError(f"{file} holds no {', no '.join(missing)}: it is no whole model.")
    try:
        configs = _metadata(file) or _inferred(parts, betas)
        if "scheduler" not in configs:
            raise ValueError(
                "the noise schedule (the tensor betas) is not Stable Diffusion's, and nothing in "
                "the file says which it is; it cannot be read."
            )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    written = {"text_encoder": {PREFIX + k: v for k, v in parts["text_encoder"][1].items()}}
    for part in ("unet", "vae"):
        prefix, found = parts[part]
        found = linear(found) if part == "vae" else found
        written[part], extra = renamed(found, inverted(_table(part, configs[part])))
        unknown += [prefix + name for name in extra]
    if unknown:
        shown = ", ".join(sorted(unknown)[:12]) + (", ..." if len(unknown) > 12 else "")
        raise ValueError(
            f"{file} has {len(unknown)} tensors that have no place in such a model ({shown}); it "
            "computes something that our networks do not, so it cannot be read."
        )
    for part, name in FILES.items():
        write_json(folder / part / name, configs[part])
    for part, weights in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", TEXT_WEIGHTS)):
        tensors = {name: value.contiguous() for name, value in written[part].items()}
        save_file(tensors, folder / part / weights, metadata={"format": "pt"})
    inpaints = configs["unet"]["in_channels"] == INPAINTING_CHANNELS
    write_json(
        folder / INDEX, {"_class_name": f"StableDiffusion{'Inpaint' if inpaints else ''}Pipeline"}
    )


def _inferred(
    parts: Mapping[str, tuple[str, dict[str, Tensor]]], betas: Tensor | None
) -> dict[str, dict[str, Any]]:
    """What a program takes the model for that sees its tensors only."""
    configs = {
        "unet": compvis_config.unet_config(parts["unet"][1]),
        "vae": compvis_config.autoencoder_config(parts["vae"][1]),
        "text_encoder": compvis_config.text_config(parts["text_encoder"][1]),
    }
    if compvis_config.is_usual(betas):
        configs["scheduler"] = compvis_config.SCHEDULER
    return configs


def _unseen(configs: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    found = []
    for part, names in _SHOWN_BY_NO_TENSOR.items():
        for name, default in names.items():
            has = configs[part].get(name, default)
            levels = len(configs[part].get("block_out_channels", []))
            has = [has] * levels if name == "attention_head_dim" and isinstance(has, int) else has
            if has != (taken := seen[part].get(name, default)):
                found.append(f"{part}: {name} {has} (taken for {taken})")
    return found if "scheduler" in seen else [*found, "scheduler: the noise schedule"]


def _parts(state: Mapping[str, Tensor]) -> tuple[dict[str, tuple[str, dict[str, Tensor]]], list]:
    """Prefix and tensors of each network, without that prefix; and the names of no network."""
    prefixes = {"unet": UNET_PREFIX, "vae": AUTOENCODER_PREFIX, "text_encoder": TEXT_PREFIX}
    parts: dict[str, tuple[str, dict[str, Tensor]]] = {k: (p, {}) for k, p in prefixes.items()}
    unknown = []
    for name, value in state.items():
        part = next((k for k, prefix in prefixes.items() if name.startswith(prefix)), None)
        if name in _BUFFERS or name.startswith(_LEFT_OUT):
            continue
        if part is None:
            unknown.append(name)
        else:
            rest = name.removeprefix(prefixes[part])
            parts[part][1][rest.removeprefix(PREFIX) if part == "text_encoder" else rest] = value
    return parts, unknown


def _table(part: str, config: Mapping[str, Any]) -> Table:
    """Names of a network with this config.json."""
    levels, layers = len(config["block_out_channels"]), config.get("layers_per_block", 2)
    layers = layers[0] if isinstance(layers, list) else layers
    if part == "vae":
        return autoencoder_table(levels, layers)
    attention = ["Attn" in block for block in config["up_block_types"]]
    return unet_table(levels, layers) | upsamplers(levels, layers, attention)


def _require_layout(configs: Mapping[str, Mapping[str, Any]], *, pad_id: int) -> None:
    """ValueError for what the names have no place for, or what its readers could not know of."""
    unet, scheduler = configs["unet"], configs["scheduler"]
    found = {
        "backbone.pooling_heads": unet.get("addition_embed_type") == "text",
        "backbone.vector_dim": unet.get("addition_embed_type") == "text_time",
        "prediction": scheduler.get("prediction_type", "epsilon") != "epsilon",
        "schedule": "beta_schedule" not in scheduler,
        "text_encoder.pad_id": pad_id != END_OF_TEXT,
    }
    for setting, present in found.items():
        if present:
            raise ValueError(
                f"the setting {setting}= of this model has no place in the layout of single files, "
                "which other programs take for Stable Diffusion 1. Export it with format=diffusers."
            )


def _metadata(file: Path) -> dict[str, dict[str, Any]] | None:
    """The settings that ``pack`` left in a file; None in those of others."""
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA)
    if text is None:
        return None
    try:
        configs = json.loads(text)
        return {part: dict(configs[part]) for part in FILES}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its metadata {METADATA} is damaged ({error})") from error


def _buffers(alpha_bar: Tensor) -> dict[str, Tensor]:
    """The tables of the process that this layout carries (Ho et al. 2020, eq. 4 to 7)."""
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    betas = 1.0 - alpha_bar / before
    variance = betas * (1.0 - before) / (1.0 - alpha_bar)
    values = (
        betas, alpha_bar, before, alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt(),
        (1.0 - alpha_bar).log(), alpha_bar.rsqrt(), (1.0 / alpha_bar - 1.0).sqrt(), variance,
        variance.clamp(min=1e-20).log(), betas * before.sqrt() / (1.0 - alpha_bar),
        (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - alpha_bar),
    )  # fmt: skip
    return {name: value.float() for name, value in zip(_BUFFERS, values, strict=True)}
