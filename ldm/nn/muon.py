"""Muon: momentum made orthogonal, for the hidden weights of a network (Jordan et al. 2024)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ldm.ranges import Count, Decay, Length, NonNegative, Positive

_QUINTIC = (3.4445, -4.7750, 2.0315)  # lifts small singular values fastest (Jordan et al. 2024)


def orthogonalize(matrices: Tensor, *, iterations: int) -> Tensor:
    """About U V^T of each matrix U S V^T: (N, rows, columns) -> same shape, at least float32.

    Newton-Schulz with a quintic polynomial: five iterations bring singular values above a
    twentieth of the largest to between 0.6 and 1.25; fewer leave the small ones smaller.
    """
    wide = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    if tall := wide.shape[1] > wide.shape[2]:
        wide = wide.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(iterations):
        gram = wide @ wide.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.baddbmm(wide, polynomial, wide, beta=a)
    return wide.mT if tall else wide


class Muon(Optimizer):
    """Hidden matrices take orthogonalised momentum, everything else AdamW, at one learning rate.

    Every direction of a weight matrix moves by the same amount, so rare features (the shape of a
    thing, beside its colour) are learned as early as common ones. Convolutions count as matrices
    (out, in * kernel). Updates are scaled to the size of AdamW's, 0.2 root mean square (Liu et al.
    2025, eq. 4), so that both kinds share lr and weight decay, which is decoupled.

    ``named_parameters`` are pairs of name and parameter: vectors and parameters whose name
    contains one of ``adam`` (inputs, outputs, embedding tables) are AdamW's, with ``betas`` and
    ``eps``. torch.optim.Muon refuses convolutions and computes in bf16, which CPUs emulate.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: Positive,
        momentum: Decay,
        iterations: Count,
        adam: Sequence[str],
        betas: Annotated[Sequence[Decay], Length(2)],
        eps: Positive,
        weight_decay: NonNegative,
    ) -> None:
        matrices: list[tuple[str, nn.Parameter]] = []
        others: list[tuple[str, nn.Parameter]] = []
        for name, parameter in named_parameters:
            is_hidden = parameter.ndim >= 2 and not any(part in name for part in adam)
            (matrices if is_hidden else others).append((name, parameter))
        settings = {
            "momentum": momentum, "iterations": iterations, "betas": tuple(betas), "eps": eps,
        }  # fmt: skip
        groups: list[dict[str, Any]] = [
            {"params": parameters, "orthogonal": orthogonal}
            for parameters, orthogonal in ((matrices, True), (others, False))
            if parameters
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, **settings})
        self._step_supports_amp_scaling = True
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient, or none where ``found_inf`` is 1.

        ``found_inf``, a float32 scalar on the device or None, is torch's protocol of fused
        optimizers: skipping is decided there, without asking the host.
        """
        assert closure is None, "losses are computed before the step"
        for group in self.param_groups:
            grads = {p: p.grad for p in group["params"] if p.grad is not None}
            if not grads:
                continue
            one = next(iter(grads)).new_ones(())
            skip = one != one if self.found_inf is None else self.found_inf > 0.0
            kept = torch.where(skip, one, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_mul_(list(grads), kept)
            (self._move_matrices if group["orthogonal"] else self._move_others)(grads, group, skip)

    def _move_matrices(
        self, grads: dict[Tensor, Tensor], group: dict[str, Any], skip: Tensor
    ) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in grads:
            by_shape.setdefault(tuple(parameter.flatten(1).shape), []).append(parameter)
        for shape, alike in by_shape.items():  # one batched product for all of a shape
            buffers = [self._state(p, "momentum_buffer") for p in alike]
            # On the way to itself a buffer stays where it is.
            gradients = [
                torch.where(skip, b, grads[p]) for p, b in zip(alike, buffers, strict=True)
            ]
            torch._foreach_lerp_(buffers, gradients, 1.0 - group["momentum"])
            looked_ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov
            updates = orthogonalize(
                torch.stack([u.flatten(1) for u in looked_ahead]), iterations=group["iterations"]
            )
            updates = torch.where(skip, 0.0, updates)
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            for parameter, update in zip(alike, updates, strict=True):
                parameter.sub_(update.reshape(parameter.shape), alpha=rate)

    def _move_others(
        self, grads: dict[Tensor, Tensor], group: dict[str, Any], skip: Tensor
    ) -> None:
        (beta1, beta2), parameters = group["betas"], list(grads)
        means = [self._state(p, "exp_avg") for p in parameters]
        squares = [self._state(p, "exp_avg_sq") for p in parameters]
        steps = self._count(group, skip)
        pairs = list(zip(grads.values(), means, strict=True))
        torch._foreach_lerp_(means, [torch.where(skip, m, g) for g, m in pairs], 1.0 - beta1)
        one = means[0].new_ones(())
        gradients = [torch.where(skip, 0.0, g) for g, _ in pairs]
        torch._foreach_mul_(squares, torch.where(skip, one, beta2))
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - beta2)
        spread = torch._foreach_sqrt(squares)
        torch._foreach_div_(spread, ((1.0 - beta2**steps) ** 0.5).to(one.dtype))
        torch._foreach_add_(spread, group["eps"])
        rate = torch.where(skip, 0.0, -group["lr"] / (1.0 - beta1**steps)).to(one.dtype)
        moves = torch._foreach_div(torch._foreach_mul(means, rate), spread)
        torch._foreach_add_(parameters, moves)

    @staticmethod
    def _count(group: dict[str, Any], skip: Tensor) -> Tensor:
        """Steps taken, this one included: float64 (), kept on the device that decides."""
        before = torch.as_tensor(group.get("step", 0), dtype=torch.float64, device=skip.device)
        group["step"] = before + (~skip)
        return group["step"].clamp(min=1.0)

    def _state(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]
