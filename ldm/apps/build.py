"""From a node of the configuration to the object it describes."""

from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from ldm.apps.errors import UserError


def build(node: DictConfig, **more: Any) -> Any:
    """Call the node's ``_target_`` with its settings; UserError with its words where it refuses."""
    try:
        return instantiate(node, _convert_="all", **more)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError | ImportError):
            raise UserError(str(cause)) from error
        if isinstance(cause, TypeError):
            raise UserError(
                f"{node._target_} cannot be made from its settings: {cause}."
            ) from error
        raise


def device_of(accelerator: str) -> torch.device:
    """The device meant by cpu, gpu or auto (a GPU where there is one); UserError without one."""
    found = torch.cuda.is_available()
    if accelerator == "gpu" and not found:
        raise UserError("accelerator=gpu, but torch finds no GPU; see `ldm doctor`, or use cpu.")
    return torch.device("cuda" if found and accelerator != "cpu" else "cpu")
