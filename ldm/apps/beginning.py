"""What a run begins with: the stage's parts, their initial weights, and the precision of both."""

import importlib
import logging
import os
import warnings
from typing import Any

import torch
from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, parts_at
from ldm.apps.shares import shares_of
from ldm.apps.stages.assembly import Assembly
from ldm.interop.condition_encoders import CLASS_ENCODER
from ldm.manifest import fingerprint
from ldm.nn.half import halve_weights
from ldm.tasks.loss_scale import LossScale


def quiet() -> None:
    """Lightning's own chatter says nothing a user of ldm needs."""
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning")


def assembled(config: DictConfig) -> Assembly:
    """The stage's task and data as they are at step 0."""
    torch.manual_seed(config.seed)  # initial weights: the same on every rank
    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    (share,) = shares_of(config, [(config.size, config.size)])
    assembly: Assembly = stage.assemble(config, share)
    if config.init is not None:
        _initialise(assembly, config.init)
    in_precision(assembly.task, config)
    return assembly


def in_precision(task: Any, config: DictConfig) -> None:
    """Give a new task's networks the weights, and the loss scale, of the configured precision."""
    if config.precision == "64-true":
        # Lightning would only after the checkpoint is read, and round its moments.
        task.double()
    if weights := {"bf16-true": torch.bfloat16, "16-true": torch.float16}.get(config.precision):
        for part in task.trained.values():
            halve_weights(part.network, weights)
    if config.precision in ("16-mixed", "16-true"):
        scale = LossScale()
        for part in task.trained.values():
            part.loss_scale = scale


def _initialise(assembly: Assembly, source: str) -> None:
    """Start from the weights of another run, averages included."""
    task = assembly.task
    try:
        assembly.initialise(model_folder(source, assembly.part))
    except RuntimeError as error:
        raise UserError(
            f"init={source} is of another architecture: {str(error).splitlines()[1].strip()}"
        ) from error
    product = task.trained[task.product]
    if product.ema is not None:
        product.ema.restart(product.network)


def init_input(path: str, part: str) -> dict[str, str]:
    """Path and fingerprint of all that initial weights and the latents' scale are read from."""
    folder = model_folder(path, part)
    parts = parts_at(str(folder), (part, "vae", CLASS_ENCODER))
    found = {name: part_input(str(folder), name)["fingerprint"] for name in parts}
    return {"path": str(folder.resolve()), "fingerprint": fingerprint(found)}
