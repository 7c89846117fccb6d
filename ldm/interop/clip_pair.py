"""Published CLIP pairs of a text and an image tower, as others' files hold them.

What lies beside the weights says how to read them: transformers' config.json and
preprocessor_config.json, or open_clip's open_clip_config.json; where nothing does, the name of one
of open_clip's models has to be given.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ldm.features.prepared import Preprocessing
from ldm.interop.diffusers_files import CONFIG, read
from ldm.interop.transformers_clip import (
    OPENAI_MEAN,
    OPENAI_STD,
    PREPROCESSOR,
    pair_config,
    pair_to_ours,
    preprocessing,
)
from ldm.interop.weights_fit import require_fit
from ldm.text.clip import CONFIG_FILE, ClipTowers, fill
from ldm.text.clip_settings import VisionSettings
from ldm.text.tokenizer import VOCABULARY_SIZE
from ldm.weights import load_state_dict

BESIDE = (CONFIG_FILE, CONFIG, PREPROCESSOR)  # what says how weights are to be read
ACTIVATIONS = {False: "gelu", True: "quick_gelu"}  # by open_clip's quick_gelu

# What OpenAI's own files hold beside weights; it trained with quick_gelu.
_OPENAI = ("input_resolution", "context_length", "vocab_size")


class ClipPair(NamedTuple):
    """Both towers, and what a picture goes through before it is seen."""

    towers: ClipTowers
    preprocessing: Preprocessing

    @property
    def activation(self) -> str:
        """gelu, or the quick_gelu that OpenAI's weights need."""
        return ACTIVATIONS[self.towers.config["quick_gelu"]]


def read_clip_pair(
    file: str | Path, *, model: str | None = None, activation: str | None = None
) -> ClipPair:
    """The pair whose weights ``file`` holds, in fp32 on the CPU.

    ``model`` is needed where nothing beside the file describes it. ``activation``, where given, is
    what the pair must have: with the other one, weights give numbers that look right and are not.
    ValueError where the file does not fit or its settings are not supported.
    """
    file = Path(file)
    if model is not None:
        pair = _of_open_clip(file, _known_model(model), {}, said_by=f"model={model}")
    elif (beside := file.parent / CONFIG_FILE).is_file():
        whole = read(beside)
        preprocess = whole.get("preprocess_cfg") or {}
        pair = _of_open_clip(file, whole.get("model_cfg") or {}, preprocess, said_by=f"{beside}")
    elif (beside := file.parent / CONFIG).is_file():
        config = pair_config(read(beside), origin=beside)
        prepared = preprocessing(file.parent / PREPROCESSOR, config["vision_cfg"]["image_size"])
        pair = ClipPair(_towers(pair_to_ours(load_state_dict(file)), config, file), prepared)
    else:
        raise ValueError(
            f"nothing beside {file} says which model it is: copy {CONFIG} and {PREPROCESSOR} of "
            f"transformers, or {CONFIG_FILE}, into {file.parent}, or give open_clip's name of the "
            "model, such as model=ViT-L-14-quickgelu."
        )
    if activation not in (None, pair.activation):
        raise ValueError(
            f"activation={activation} was asked for, but {file} belongs to a model with "
            f"{pair.activation}: with another one, scores look right and mean nothing. Leave "
            "activation= out."
        )
    return pair


def _known_model(name: str) -> dict[str, Any]:
    import open_clip

    if (config := open_clip.get_model_config(name)) is None:
        known = open_clip.list_models()
        close = difflib.get_close_matches(name, known, n=3) or known[:5]
        raise ValueError(
            f"model={name!r} is no model of open_clip; did you mean {' or '.join(close)}?"
        )
    return dict(config)


def _of_open_clip(
    file: Path, config: Mapping[str, Any], preprocess: Mapping[str, Any], *, said_by: str
) -> ClipPair:
    if missing := {"embed_dim", "vision_cfg", "text_cfg"} - config.keys():
        raise ValueError(f"{said_by} lacks {', '.join(sorted(missing))}. Copy it again.")
    text, vision = dict(config["text_cfg"]), dict(config["vision_cfg"])
    other_tokenizer = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if other_tokenizer or text.get("vocab_size", VOCABULARY_SIZE) < VOCABULARY_SIZE:
        raise ValueError(
            f"{said_by}: captions have another tokenizer than CLIP's byte pairs, which cannot be "
            "read. Choose a model of OpenAI's or LAION's."
        )
    state = load_state_dict(file)
    # Training saves "module."; a text tower of a class of its own is under "text.".
    ours = {
        name.removeprefix("module.").removeprefix("text."): value
        for name, value in state.items()
        if name not in _OPENAI
    }
    quick_gelu = bool(config.get("quick_gelu", False))
    of_openai = "openai" in str(file).lower() or all(name in state for name in _OPENAI)
    if of_openai and not quick_gelu:
        raise ValueError(
            f"{file} holds OpenAI's weights, which were trained with quick_gelu, but {said_by} "
            "has gelu: scores would look right and mean nothing. Name the model that has it, such "
            "as model=ViT-L-14-quickgelu."
        )
    shapes = {"shortest": "crop_even", "squash": "squash"}
    if (mode := preprocess.get("resize_mode", "shortest")) not in shapes:
        raise ValueError(f"{said_by}: resize_mode = {mode!r} of pictures is not supported.")
    size = vision.get("image_size", 224)
    prepared = Preprocessing(
        size=tuple(size) if isinstance(size, list | tuple) else (size, size),
        mean=tuple(preprocess.get("mean", OPENAI_MEAN)),
        std=tuple(preprocess.get("std", OPENAI_STD)),
        interpolation=preprocess.get("interpolation", "bicubic"),
        shape=shapes[mode],
    )
    whole = {"embed_dim": config["embed_dim"], "vision_cfg": vision, "text_cfg": text}
    return ClipPair(_towers(ours, whole | {"quick_gelu": quick_gelu}, file), prepared)


def _towers(state: Mapping[str, Tensor], config: Mapping[str, Any], file: Path) -> ClipTowers:
    vision: VisionSettings = {**config["vision_cfg"]}
    if of_timm := bool(vision.get("timm_model_name")):
        vision["timm_model_pretrained"] = False  # it would be fetched
    # Towers of timm compute while they are built, which the meta device cannot, and draw.
    with torch.device("cpu" if of_timm else "meta"), torch.random.fork_rng(devices=[]):
        towers = ClipTowers(
            embed_dim=config["embed_dim"],
            vision=vision,
            text=config["text_cfg"],
            quick_gelu=config["quick_gelu"],
            states="last",
        )
    require_fit(state, towers.model.state_dict(), origin=str(file))
    fill(towers.model, state)
    return towers
