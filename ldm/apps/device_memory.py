"""How much memory training keeps on each device, besides activations."""

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.data.order import Share

_BYTES = {"64-true": 8, "bf16-true": 2, "16-true": 2}  # of a weight; 4 for all others


def in_words(config: DictConfig, network: nn.Module, share: Share) -> str:
    """One line: bytes per device of what is trained. ``network`` lies on the meta device."""
    weights = _BYTES.get(config.precision, 4) * sum(p.numel() for p in network.parameters())
    held = {
        "weights": weights,
        "gradients": weights,
        "optimizer": _optimizer_elements(config, network) * _BYTES.get(config.precision, 4),
    }
    if config.ema_decay is not None:
        held["average"] = 4 * sum(p.numel() for p in network.parameters())
    how = ""
    if config.strategy == "fsdp":
        parts = config.devices if config.devices > 1 else config.num_nodes
        # Gradients that are still to be added to are whole.
        cut = held.keys() - ({"gradients"} if share.accumulate > 1 else set())
        held |= {name: held[name] / parts for name in cut}
        how = f" (fsdp: {', '.join(n for n in held if n in cut)} in {parts} parts)"
    each = ", ".join(f"{name} {_size(value)}" for name, value in held.items())
    total = _size(sum(held.values()))
    return f"each device holds {total}, beside activations and frozen networks: {each}{how}"


def _optimizer_elements(config: DictConfig, network: nn.Module) -> int:
    """How many numbers the optimizer remembers, found by a step without data."""
    more: dict[str, Any] = {"fused": False} if "fused" in config.optimizer else {}
    optimizer = build(config.optimizer, lr=config.lr, **more)(network.named_parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(
        value.numel()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
