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
from safetensors.torch import save_file
from torch import Tensor

from ldm.diffusion.prediction import Prediction
from ldm.interop.compvis import averages, text
from ldm.interop.compvis.foreign import kind_of_file
from ldm.interop.compvis.layouts import Layout, layout_of_file
from ldm.interop.compvis.names import (
    autoencoder_table,
    convolutional,
    inverted,
    linear,
    renamed,
    unet_table,
    upsamplers,
)
from ldm.interop.compvis.process import NAMES, unseen_process, written
from ldm.interop.compvis.settings import (
    METADATA,
    Configs,
    Parts,
    configs_of,
    described,
    unseen,
)
from ldm.interop.condition_encoders import TEXT_ENCODERS
from ldm.interop.diffusers_autoencoder import empty_autoencoder
from ldm.interop.diffusers_files import CONFIG, WEIGHTS, read_weights
from ldm.interop.diffusers_scheduler import SCHEDULER_CONFIG, read_schedule
from ldm.interop.diffusers_unet import empty_unet
from ldm.interop.pipeline import INDEX, INPAINTING_CHANNELS
from ldm.interop.transformers import WEIGHTS as TEXT_WEIGHTS
from ldm.interop.transformers_tokenizer import write_tokenizer
from ldm.interop.weight_files import read_files
from ldm.interop.weights_fit import Tensors, require_fit
from ldm.manifest import atomic, write_json
from ldm.weights import load_state_dict

WEIGHTS_OF = {
    "unet": WEIGHTS, "vae": WEIGHTS, "text_encoder": TEXT_WEIGHTS, "text_encoder_2": TEXT_WEIGHTS,
}  # fmt: skip
# Of full checkpoints: averages beside the weights, the loss' networks, constants.
_LEFT_OUT = (averages.PREFIX, "first_stage_model.loss.", "scale_factor", "logvar")


def pack(folder: str | Path, file: str | Path) -> list[str]:
    """Write the model of a folder that ``export_pipeline`` or diffusers wrote as one file.

    Returns what no tensor shows and readers take to be otherwise: a program that is not told
    computes something else. ValueError naming the setting where the layout has no place for it.
    """
    folder = Path(folder)
    layout, configs = described(folder)
    parts: Parts = {}
    for part in ("unet", "vae"):
        parts[part], unknown = renamed(read_weights(folder / part), _table(part, configs[part]))
        assert not unknown, unknown  # of a folder that our reader accepts
    parts["vae"] = convolutional(parts["vae"])
    for tower in layout.text:
        found = read_files(folder / tower.part, TEXT_WEIGHTS)
        parts[tower.part] = text.to_file(found, tower)
    state = {layout.prefixes[p] + k: v for p, tensors in parts.items() for k, v in tensors.items()}
    schedule, _ = read_schedule(folder / "scheduler")
    alpha_bar = schedule.alpha(torch.arange(schedule.num_steps)).square()
    state |= written(configs["scheduler"], layout, alpha_bar)
    metadata = {"format": "pt", METADATA: json.dumps(configs, sort_keys=True)}
    with atomic(file) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata=metadata)
    told = unseen_process(configs["scheduler"], layout, alpha_bar)
    return unseen(configs, parts, layout) + told


def unpack(
    file: str | Path,
    folder: str | Path,
    *,
    weights: str | None = None,
    prediction: Prediction | None = None,
) -> list[str]:
    """Write the model of a single file as a folder that ``read_pipeline`` reads.

    ``weights`` chooses where a checkpoint has two sets: "ema" are the averages, "raw" those of the
    last step; None takes the averages where there are some. ``prediction`` is what the denoiser
    predicts, where the file does not say it. Returns what was taken, in sentences.
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
        parts["unet"], said = averages.chosen(parts["unet"], state, weights)
        configs = configs_of(file, parts, state, layout, prediction)
        theirs = {t.part: text.to_folder(parts[t.part], t) for t in layout.text}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    parts["vae"] = linear(parts["vae"])
    for part in ("unet", "vae"):
        table = inverted(_table(part, configs[part]))
        theirs[part], extra = renamed(parts[part], table)
        unknown += [layout.prefixes[part] + name for name in extra]
    if unknown:
        shown = ", ".join(sorted(unknown)[:12]) + (", ..." if len(unknown) > 12 else "")
        raise ValueError(
            f"{file} has {len(unknown)} tensors that have no place in a model of {layout.name}'s "
            f"kind ({shown}); it computes something that our networks do not, so it cannot be read."
        )
    _write_folder(folder, layout, configs, theirs)
    for part, network in (("unet", empty_unet(folder)), ("vae", empty_autoencoder(folder))):
        expected, _ = renamed(network.state_dict(), _table(part, configs[part]))
        _require_fit(parts[part], expected, layout.prefixes[part], file)
    return said


def _require_fit(found: Tensors, expected: Tensors, prefix: str, file: Path) -> None:
    """ValueError by the file's names, in which the user looks for them."""
    first, second = ({prefix + k: v for k, v in tensors.items()} for tensors in (found, expected))
    require_fit(first, second, origin=str(file))


def _parts(state: Mapping[str, Tensor], layout: Layout) -> tuple[Parts, list[str]]:
    """The tensors of each network, without its prefix; and the names of no network."""
    parts: Parts = {part: {} for part in layout.prefixes}
    unknown = []
    for name, value in state.items():
        part = next((k for k, prefix in layout.prefixes.items() if name.startswith(prefix)), None)
        if part is not None and not name.startswith(_LEFT_OUT):
            parts[part][name.removeprefix(layout.prefixes[part])] = value
        elif name not in NAMES and not name.startswith(_LEFT_OUT) and not _is_of_clip(name):
            unknown.append(name)
    return parts, unknown


def _is_of_clip(name: str) -> bool:
    """Whether a tensor beside a text tower is of CLIP's training; some programs write these."""
    beside = (".logit_scale", ".text_projection", ".text_projection.weight")
    return name.startswith(("cond_stage_model.", "conditioner.")) and name.endswith(beside)


def _table(part: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Names of a network with this config.json."""
    levels, layers = len(config["block_out_channels"]), config.get("layers_per_block", 2)
    layers = layers[0] if isinstance(layers, list) else layers
    if part == "vae":
        return autoencoder_table(levels, layers)
    attention = ["Attn" in block for block in config["up_block_types"]]
    return unet_table(levels, layers) | upsamplers(levels, layers, attention)


def _write_folder(folder: Path, layout: Layout, configs: Configs, weights: Parts) -> None:
    index: dict[str, Any] = {**configs["index"], "scheduler": ["diffusers", "DDIMScheduler"]}
    if configs["unet"].get("in_channels") == INPAINTING_CHANNELS:
        index["_class_name"] = index["_class_name"].replace("Pipeline", "InpaintPipeline")
    index |= {name: [None, None] for part in TEXT_ENCODERS for name in (part, TEXT_ENCODERS[part])}
    for part, tensors in weights.items():
        write_json(folder / part / CONFIG, configs[part])
        file = folder / part / WEIGHTS_OF[part]
        save_file({k: v.contiguous() for k, v in tensors.items()}, file, metadata={"format": "pt"})
        index[part] = ["diffusers", configs[part].get("_class_name")]
    for tower in layout.text:
        tokenizer, config = TEXT_ENCODERS[tower.part], configs[tower.part]
        write_tokenizer(
            folder / tokenizer,
            context_length=config.get("max_position_embeddings", 77),
            pad_id=config.get("pad_token_id", tower.pad_id),
        )
        kind = "CLIPTextModelWithProjection" if tower.has_projection else "CLIPTextModel"
        index |= {tower.part: ["transformers", kind], tokenizer: ["transformers", "CLIPTokenizer"]}
    write_json(folder / "scheduler" / SCHEDULER_CONFIG, configs["scheduler"])
    write_json(folder / INDEX, index)
