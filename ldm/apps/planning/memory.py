"""How much memory training takes on each device, by part: one estimate, for every command."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.apps.planning.activations import Kept, kept_by
from ldm.apps.planning.parts import Parts, parameters
from ldm.apps.report.numbers import size_in_words
from ldm.nn.blocks import blocks

RESERVED_BYTES = 1e9  # CUDA's context, its libraries' workspaces, buffers of communication
RESERVED_SHARE = 0.05  # of the rest: pieces between what is allocated
ASSUMPTIONS = (
    "activations: what autograd saves on the meta device, under autocast, with fused attention; "
    "validation and sample pictures need less and are not counted",
    "on one device gradients take the place of activations as the backward pass frees them; they "
    "are added all the same, to be on the safe side",
    f"reserve on a GPU: {RESERVED_BYTES / 1e9:g} GB for CUDA and its libraries, and "
    f"{RESERVED_SHARE:.0%} of the rest for gaps",
)
_BYTES = {"64-true": 8, "bf16-true": 2, "16-true": 2}  # of a weight; 4 for all others
_LOW = {
    "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16,
    "bf16-true": torch.bfloat16, "16-true": torch.float16,
}  # fmt: skip


@dataclass(frozen=True)
class Holdings:
    """What does not depend on how a batch is cut: bytes of one copy, and per picture."""

    trained: dict[str, float]  # weights, gradients, optimizer, average: of what fsdp cuts
    others: dict[str, float]  # weights and more of networks beside, whole on each device
    kept: Kept
    recomputes: bool
    on_gpu: bool
    block: float  # bytes of the largest repeated block's weights

    @property
    def per_picture(self) -> float:
        """Activations that each picture of a micro-batch takes."""
        return self.kept.recomputing if self.recomputes else self.kept.per_picture


@dataclass(frozen=True)
class Cutting:
    """How work lies on devices: with fsdp weights are cut in ``parts``, else that is 1."""

    micro_batch: int
    accumulates: bool
    parts: int = 1


def holdings_of(config: DictConfig, parts: Parts) -> Holdings:
    """What a configuration keeps. Its ``parts`` must be as built, without recomputation."""
    size = _BYTES.get(config.precision, 4)
    product = parts.product
    count = parameters(product)
    trained = {
        "weights": size * count,
        "gradients": size * count,
        "optimizer": size * optimizer_elements(config, product),
    }
    if config.ema_decay is not None:
        trained["average"] = 4 * count
    others: dict[str, float] = {name: 4 * parameters(n) for name, n in parts.frozen.items()}
    for name, network in parts.learns_beside.items():
        elements = 2 * parameters(network) + optimizer_elements(config, network)
        others[name] = 4 * elements
    return Holdings(
        {name: float(value) for name, value in trained.items()},
        others,
        kept_by(parts, _LOW.get(config.precision)),
        recomputes=config.activation_checkpointing,
        on_gpu=config.accelerator != "cpu",
        block=size * max((parameters(block) for block in blocks(product)), default=0),
    )


def memory_of(held: Holdings, cutting: Cutting) -> dict[str, float]:
    """Bytes on each device, by part."""
    found = dict(held.trained)
    if cutting.parts > 1:
        # Gradients that are still to be added to are whole.
        whole = {"gradients"} if cutting.accumulates else set()
        found |= {n: v / cutting.parts for n, v in found.items() if n not in whole}
        found["gathered_weights"] = 2 * held.block  # one at work, the next on its way
    found |= held.others
    found["weights_in_16_bits"] = held.kept.casts
    found["activations"] = held.per_picture * cutting.micro_batch
    if held.on_gpu:
        found["reserve"] = RESERVED_BYTES + RESERVED_SHARE * sum(found.values())
    return {name: value for name, value in found.items() if value}


def largest_micro_batch(held: Holdings, cutting: Cutting, images: int, memory: float) -> int:
    """The largest divisor of ``images`` up to the cutting's micro-batch that fits; 0 for none."""
    for size in range(min(cutting.micro_batch, images), 0, -1):
        if images % size == 0:
            tried = Cutting(size, size < images, cutting.parts)
            if sum(memory_of(held, tried).values()) <= memory:
                return size
    return 0


def in_words(found: Mapping[str, float]) -> str:
    """One line: bytes per device in all and by part."""
    each = ", ".join(
        f"{name.replace('_', ' ')} {size_in_words(value)}" for name, value in found.items()
    )
    return f"each device holds about {size_in_words(sum(found.values()))}: {each}"


def optimizer_elements(config: DictConfig, network: nn.Module) -> int:
    """How many numbers the optimizer remembers, found by a step without data."""
    more: dict[str, Any] = {"fused": False} if "fused" in config.optimizer else {}
    optimizer = build(config.optimizer, lr=1.0, **more)(network.named_parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sum(
        value.numel()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
