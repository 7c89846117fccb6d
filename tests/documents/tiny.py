"""A command of a document made so small that it runs within seconds: sizes change, nothing else.

Its choices (experiment, parts, sampler, metrics, logger, ...) stay as they are typed. Devices
become one CPU, counts become a few, and names of a reader's own files those of prepared ones.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TRAIN = {
    "max_steps": 2, "global_batch": 4, "micro_batch": "null", "size": 32, "warmup_steps": 1,
    "checkpoint_every": 2, "validate_every": 2, "log_every": 1, "devices": 1, "num_nodes": 1,
    "strategy": "auto",
    "accelerator": "cpu", "precision": "32-true", "compile": "false", "data.workers": 0,
}  # fmt: skip
# Only where the command has the setting itself: it is what the command is about.
TRAIN_IF_TYPED = {
    "micro_batch": 2, "evaluate_every": 2, "models_every": 1, "keep_models": 1, "data.lanes": 2,
    "activation_checkpointing": "true", "sweep.trials": 2,
}  # fmt: skip
PREPARE = {"processes": 1}
PREPARE_IF_TYPED = {"data.size_px": 32, "data.min_size_px": 0}
CACHE = {"block": 8, "accelerator": "cpu", "devices": 1, "workers": 0}
VISION_TRANSFORMER = "{image_size: 32, patch_size: 8, width: 160, layers: 1}"
SAMPLE = {"steps": 2, "block": 4, "accelerator": "cpu"}
EVALUATE = {"steps": 1, "num_samples": 20, "block": 8, "accelerator": "cpu", "devices": 1}
MADE_AS = {  # the setting that names what a command makes from nothing
    "train": "run", "import": "run", "prepare": "out", "cache": "out", "export": "out",
    "run": "out",
}  # fmt: skip
MOST_PICTURES, MOST_VALUES = 4, 2


def tiny(
    command: str,
    words: Sequence[str],
    *,
    stage: str | None = None,
    settings: Mapping[str, Sequence[str]],
    place: Callable[[str], str],
) -> list[str]:
    """The words of a small command; ``settings`` are those of small networks, by stage.

    ``stage`` is that of `ldm train`; ``place`` gives the prepared file for a name, or the name.
    """
    makes = MADE_AS.get(command)
    typed = [_with_places(word, place, makes) for word in words]
    has = {word.partition("=")[0]: word.partition("=")[2] for word in typed}
    small: dict[str, Any] = {}
    before: list[str] = []
    if command == "train":
        assert stage is not None
        before = [w for w in settings[stage] if not w.startswith("experiment=")]
        small = TRAIN | {k: v for k, v in TRAIN_IF_TYPED.items() if k in has}
        if "evaluate_every" in has:
            small |= {"evaluation.num_samples": 8, "evaluation.block": 8}
        if stage == "autoencoder":
            small |= {"loss.disc_start": 0, "loss.gan_start": 1}
            if has.get("perceptual", "lpips") == "lpips":  # VGG16 is not there
                small |= {"perceptual": "none", "loss.perceptual": 0.0}
        if has.get("backbone.context_dim", "null") != "null":  # the small text encoder's
            small |= {"backbone.context_dim": 16}
        if "lsun" in has.get("backbone", ""):  # which no condition reaches
            small |= {"backbone.context_dim": "null", "backbone.transformer_depth": "[0,0]"}
        if stage == "text_encoder":
            small |= {"global_batch": 8}
            if "_vit_" in has.get("text_encoder", ""):  # the small one is a residual network
                small |= {"text_encoder.vision": VISION_TRANSFORMER}
                before = [word for word in before if not word.startswith("text_encoder.vision=")]
        if has.get("data.order") == "streamed":
            small |= {"data.lanes": 2}
    elif command == "prepare":
        small = PREPARE | {k: v for k, v in PREPARE_IF_TYPED.items() if k in has}
        if has.get("data") == "shapes":
            small |= {"data.num_train": 64, "data.num_held_out": 16, "data.size_px": 32}
        elif has.get("data") != "digits" and has.get("data.held_out_fraction") != "0":
            small |= {"data.held_out_fraction": 0.4}  # of so few, enough to be compared with
    elif command == "cache":
        small = CACHE | ({"size": 32} if "size" in has else {})
        if has.get("buckets") == "true":
            small |= {"bucket_step": 8, "max_crop": 1.0, "upscale": "true"}
    elif command == "sample":
        small = SAMPLE | {"num": min(int(has.get("num", 4)), MOST_PICTURES)}
    elif command == "evaluate" and "compare" not in has:
        small = EVALUATE
    kept = [_fewer(w) if "-m" in words else w for w in typed if w.partition("=")[0] not in small]
    return [*before, *kept, *(f"{key}={value}" for key, value in small.items())]


def _with_places(word: str, place: Callable[[str], str], makes: str | None) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return place(word)
    if key in (makes, "out", "sweep_dir"):
        return word  # what the command makes
    if match := re.fullmatch(r"\[(.*)\]", value):
        return f"{key}=[{','.join(place(one) for one in match[1].split(','))}]"
    return f"{key}={place(value)}"


def _fewer(word: str) -> str:
    """A setting with several values (a sweep's) with the first of them."""
    key, _, value = word.partition("=")
    if not is_varied(word):
        return word
    return f"{key}={','.join(value.split(',')[:MOST_VALUES])}"


def is_varied(word: str) -> bool:
    """Whether a word of a sweep has several values, side by side."""
    _, _, value = word.partition("=")
    return "," in value and value[:1] not in "[{'\"" and "(" not in value


def made_by(command: str, words: Sequence[str]) -> Path | None:
    """The directory that a command makes from nothing; None where it adds to one, or to none."""
    key = MADE_AS.get(command)
    named = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return Path(named[-1]) if named else None
