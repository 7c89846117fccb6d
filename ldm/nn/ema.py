"""Exponential moving average of a network's parameters, in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ldm.nn.local import local


class Ema:
    """fp32 shadow of the trainable parameters of a network, with a warm-up of the decay.

    After optimizer step n (counted from 1) the decay is min(decay, (1 + n) / (10 + n)), so that
    early averages forget the initialisation (the rule of the reference implementations). Buffers
    are not averaged: counters and tables are not weights. What it follows is the memory of the
    parameters: ``follow`` tells it when they have moved.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.shadow = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in network.named_parameters()
        }
        self.follow(network)

    @torch.no_grad()
    def restart(self, network: nn.Module) -> None:
        """Forget the past: the average becomes the network's present weights."""
        for name, parameter in network.named_parameters():
            self.shadow[name].copy_(parameter)

    @torch.no_grad()
    def update(self, step: int, ok: Tensor | None = None) -> None:
        """Move the shadow towards the network after optimizer step ``step`` (1, 2, ...).

        Where ``ok`` (a bool on the device) is false it stays, and the host is not asked.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        shadow = self._averages
        current = [p.to(shadow[0].dtype) for p in self._followed] if self._cast else self._followed
        if ok is None:
            torch._foreach_lerp_(shadow, current, 1.0 - decay)
        else:
            weight = ok.to(shadow[0].dtype) * (1.0 - decay)
            torch._foreach_lerp_(shadow, current, [weight] * len(shadow))

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within the block ``network`` computes with the averaged weights."""
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            raw = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            for name, parameter in parameters.items():
                parameter.copy_(self.shadow[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(raw[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The shadow by parameter name."""
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the shadow; ValueError when names or shapes are not the network's."""
        expected = {name: value.shape for name, value in self.shadow.items()}
        if {name: value.shape for name, value in state.items()} != expected:
            raise ValueError("The averaged weights belong to another architecture.")
        for name, value in state.items():
            self.shadow[name].copy_(value)

    def follow(self, network: nn.Module) -> None:
        """Move the shadow to where the network's parameters are, which may be new ones."""
        parameters = list(network.parameters())
        self.shadow = {
            name: value.to(parameter.device)
            for (name, value), parameter in zip(self.shadow.items(), parameters, strict=True)
        }
        # Where they lie in memory, so that a step has nothing to look up.
        self._followed, self._averages = local(parameters), local(self.shadow.values())
        pairs = zip(self._averages, self._followed, strict=True)
        self._cast = any(average.dtype != parameter.dtype for average, parameter in pairs)
