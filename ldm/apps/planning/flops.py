"""Floating-point operations per picture, counted on the meta device: nothing is computed.

1 MAC = 2 FLOP; convolutions, linear layers and attention count, what is done element by element
does not. Attention counts as the two products it is, forwards, and four backwards; kernels that
compute the first again in the backward pass are given no credit for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ldm.apps.planning.parts import BATCH, Parts, Pass
from ldm.nn.blocks import recompute_activations

CONVENTION = (
    "model FLOPs: 1 MAC = 2 FLOP; forward and backward of the trained network; no recomputation, "
    "nothing frozen"
)


class Count(NamedTuple):
    """FLOP of one picture."""

    forward: float
    backward: float

    @property
    def both(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Flops:
    """FLOP per picture of a training."""

    forward: float  # of the trained network, without gradients
    training: float  # of the same, forwards and backwards
    recomputed: float = 0.0  # once more by activation_checkpointing
    beside: dict[str, float] = field(default_factory=dict)  # other networks in a step, on average
    before: dict[str, float] = field(default_factory=dict)  # once per picture, for the cache

    @property
    def step(self) -> float:
        """All that a step computes for a picture."""
        return self.training + self.recomputed + sum(self.beside.values())


def count(forward: Callable[[], Tensor], *, pictures: int = BATCH) -> Count:
    """FLOP per picture of a way through networks on the meta device, and of its way back."""
    # The products themselves: fused kernels exist for other devices only.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        end = forward()
        forwards = counter.get_total_flops()
        if end.requires_grad:
            end.sum().backward()
        both = counter.get_total_flops()
    return Count(forwards / pictures, (both - forwards) / pictures)


def flops_of(parts: Parts, *, recompute: bool) -> Flops:
    """Those of a stage; with ``recompute`` also what activation_checkpointing adds."""
    product = _mean(parts)
    beside, before = (dict.fromkeys(_names(p), 0.0) for p in (parts.beside, parts.before))
    for other in parts.beside:
        found = count(other.forward)
        beside[other.name] += other.share * (found.forward + other.backwards * found.backward)
    for other in parts.before:
        with torch.no_grad():
            before[other.name] += count(other.forward).forward
    again = 0.0
    if recompute:
        recompute_activations(parts.product)
        again = _mean(parts).both - product.both
    return Flops(product.forward, product.both, again, beside, before)


def training_flops(parts: Parts) -> float:
    """Those of the trained network alone."""
    return _mean(parts).both


def _mean(parts: Parts) -> Count:
    """Of the product, over the shapes of its data."""
    total = sum(weight for _, weight in parts.passes.values())
    counts = [(count(way.forward), weight / total) for way, weight in parts.passes.values()]
    return Count(*(sum(c[i] * share for c, share in counts) for i in (0, 1)))


def _names(passes: list[Pass]) -> list[str]:
    return [way.name for way in passes]
