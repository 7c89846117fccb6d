"""The variance-preserving process, alpha^2 + sigma^2 = 1, given by its variances."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class VariancePreserving(nn.Module):
    """alpha(t) and sigma(t) of x_t = alpha x0 + sigma eps, as a table over t = 0..T-1.

    ``betas`` (T,) are the variances added at the training steps (Ho et al. 2020, eq. 2 and 4). t
    may be fractional: between steps log(alpha / sigma) is interpolated linearly. With
    ``zero_terminal_snr`` alpha is shifted and stretched to reach 0 at the last step and to keep
    its first value (Lin et al. 2024, algorithm 1); next to that step alpha / sigma itself is
    interpolated, whose logarithm is infinite there.
    """

    log_ratio: Tensor

    def __init__(self, betas: Tensor, *, zero_terminal_snr: bool) -> None:
        super().__init__()
        self.num_steps = len(betas)
        alpha_bar = torch.cumprod(1.0 - betas.double(), dim=0)
        if zero_terminal_snr:
            alpha = alpha_bar.sqrt()
            first, last = alpha[0], alpha[-1]
            alpha_bar = ((alpha - last) * (first / (first - last))).square()
        # log(alpha / sigma) of each step, kept in float64: a table, not a weight.
        log_ratio = 0.5 * (alpha_bar.log() - torch.log1p(-alpha_bar))
        self.register_buffer("log_ratio", log_ratio, persistent=False)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Self:
        table = self.log_ratio
        super()._apply(fn, recurse)
        # A cast of the model (``.half()``) moves the table but must not round it.
        if self.log_ratio.dtype != torch.float64:
            self.log_ratio = table.to(self.log_ratio.device)
        return self

    def _log_ratio_at(self, t: Tensor) -> Tensor:
        position = t.to(torch.float64).clamp(0, self.num_steps - 1)
        below = position.floor().long()
        above = (below + 1).clamp(max=self.num_steps - 1)
        low, high, share = self.log_ratio[below], self.log_ratio[above], position - below
        to_zero = low + torch.log1p(-share)
        return torch.where(high.isinf(), to_zero, torch.lerp(low, high, share))

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at t, same shape as t, float64."""
        return torch.sigmoid(2.0 * self._log_ratio_at(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at t, same shape as t, float64."""
        return torch.sigmoid(-2.0 * self._log_ratio_at(t)).sqrt()

    def t_of(self, log_snr: Tensor) -> Tensor:
        """The fractional t of a log(alpha^2 / sigma^2), clamped to the ends of the table."""
        wanted = (0.5 * log_snr).to(torch.float64)
        ascending = self.log_ratio.flip(0)
        above = torch.searchsorted(ascending, wanted).clamp(1, self.num_steps - 1)
        low, high = ascending[above - 1], ascending[above]
        from_zero = torch.exp(wanted - high)
        share = torch.where(low.isinf(), from_zero, (wanted - low) / (high - low))
        return self.num_steps - 1 - (above - 1 + share.clamp(0.0, 1.0))
