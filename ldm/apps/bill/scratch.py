"""`from_scratch=true`: no weight of others holds, begins or teaches what is trained."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.bill import FILE, INIT, TRAINING, in_words, read_bill, role
from ldm.apps.bill.inherited import inherited
from ldm.apps.bill.learned_by import uses_lpips
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, parts_at
from ldm.apps.run_directory import begins_anew, last_step
from ldm.manifest import FILE_NAME

_PART = {"diffusion": "unet", "autoencoder": "vae", "text_encoder": "text_encoder"}
_OTHERWISE = "or from_scratch=false, with which `ldm materials` names it as what it is"


def check_from_scratch(config: DictConfig) -> None:
    """UserError for the first pretrained part in the way of training, found without any data.

    Networks that only measure are no such parts.
    """
    if not config.from_scratch:
        return
    if uses_lpips(config):
        raise UserError(
            "from_scratch=true, but perceptual=lpips teaches by VGG16, which was trained on "
            "ImageNet. Set perceptual=own text_run=RUN (your own image tower), perceptual=none, "
            f"{_OTHERWISE}."
        )
    run = Path(str(config.run))
    if (run / FILE).is_file() and last_step(run) > 0 and not begins_anew(config):
        for part in read_bill(run / FILE).in_training:  # by settings that it had before
            raise UserError(_refusal(f"run={run}", part))
    for setting, name, path in _inputs(config):
        entry = {"path": str(path), "fingerprint": ""}
        for part in inherited(name, entry, in_words(f"run_{config.stage}")).in_training:
            raise UserError(_refusal(setting, part))


def _inputs(config: DictConfig) -> Iterator[tuple[str, str, Path]]:
    """What a run is made of that is there: the setting in words, the input's name, its place."""
    root = Path(str(config.data.root))
    if config.stage == "diffusion" and (root / FILE_NAME).is_file():
        yield f"data.root={root}", "latents", root
    if config.stage == "autoencoder" and config.perceptual == "own" and config.text_run:
        yield from _model(f"text_run={config.text_run}", config.text_run, "text_encoder")
    if config.init is not None:
        part = _PART[config.stage]
        yield from _model(f"init={config.init}", config.init, part, name="init")


def _model(
    setting: str, path: str, part: str, *, name: str | None = None
) -> Iterator[tuple[str, str, Path]]:
    if parts_at(path, (part,)):
        yield setting, name or part, model_folder(path, part)


def _refusal(setting: str, part: Mapping[str, Any]) -> str:
    made_with, what = " and ".join(part["for"]), str(part["role"]).partition(": ")[2]
    if role(part) == TRAINING:
        return (
            f"from_scratch=true, but by {setting} the {made_with} learned by {part['name']} "
            f"({what}; licence {part['licence']}; trained on {part['trained_on']}). Train that "
            f"again with perceptual=own or perceptual=none, and what was made of it, {_OTHERWISE}."
        )
    origin = part.get("origin", "unknown")
    remedy = (
        "Leave init= out, or give a run that was trained from nothing"
        if role(part) == INIT
        else "Train your own (`ldm train` with stage=autoencoder or text_encoder), and make again "
        "what was made of it"
    )
    return (
        f"from_scratch=true, but by {setting} the {made_with} has weights of others: {what}, "
        f"{part['name']} ({origin}; licence {part['licence']}). {remedy}, {_OTHERWISE}."
    )
