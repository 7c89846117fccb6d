"""How much memory training keeps on each device, besides activations."""

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.data.order import Share

_BYTES = {"64-true": 8, "bf16-true": 2, "16-true": 2}  # of a weight; 4 for all others


def held(config: DictConfig, network: nn.Module, share: Share) -> dict[str, float]:
    """Bytes per device of what is trained, by part. ``network`` lies on the meta device."""
    return _held(config, network, share)[0]


def in_words(config: DictConfig, network: nn.Module, share: Share) -> str:
    """The same as one line."""
    held, how = _held(config, network, share)
    each = ", ".join(f"{name} {_size(value)}" for name, value in held.items())
    total = _size(sum(held.values()))
    return f"each device holds {total}, beside activations and frozen networks: {each}{how}"


def _held(config: DictConfig, network: nn.Module, share: Share) -> tuple[dict[str, float], str]:
    weights = _BYTES.get(config.precision, 4) * sum(p.numel() for p in network.parameters())
    held: dict[str, float] = {
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
    return held, how


def _optimizer_elements(config: DictConfig, network: nn.Module) -> int:
    """How many numbers the optimizer remembers, found by a step without data.

    It is one of small stand-ins, each as long as 2 where its parameter is longer than 1, which
    takes a hundredth of the time: what it remembers of these is scaled along the same axes.
    """
    more: dict[str, Any] = {"fused": False} if "fused" in config.optimizer else {}
    sizes = {name: parameter.shape for name, parameter in network.named_parameters()}
    small = {
        name: nn.Parameter(torch.zeros([min(length, 2) for length in shape]))
        for name, shape in sizes.items()
    }
    optimizer = build(config.optimizer, lr=config.lr, **more)(small.items())
    for parameter in small.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(
        _scaled(value.shape, sizes[name])
        for name, parameter in small.items()
        for value in optimizer.state[parameter].values()
        if isinstance(value, Tensor)
    )


def _scaled(small: torch.Size, shape: torch.Size) -> int:
    """The elements of what has the ``small`` shape of a stand-in, for a parameter of ``shape``."""
    if len(small) != len(shape):
        return small.numel()  # a count of steps
    return math.prod(n if k == min(n, 2) else k for k, n in zip(small, shape, strict=True))


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
