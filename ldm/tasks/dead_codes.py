"""Codes that nobody chooses begin anew at places where pictures are."""

import torch
from torch import Tensor

from ldm.autoencoders.regularizers import VQ
from ldm.nn.ranks import num_ranks, sum_over_ranks
from ldm.random import integers, normal, stream, uniform

_JITTER = 0.01  # of each component


@torch.no_grad()
def revive_dead_codes(
    vq: VQ,
    counts: Tensor,
    seen: list[tuple[Tensor, Tensor]],
    *,
    seed: int,
    step: int,
    ok: Tensor,
) -> Tensor:
    """Move dead codes onto encoder outputs of this step's global batch; which ones, (num_codes,).

    A code without ``counts`` over the global batch is moved with probability ``restart_rate``, to
    a position of a sample that is drawn for it, and a little aside: flat pictures give the same
    output at many positions, and between equal codes rounding would choose. ``seen`` holds this
    rank's global sample indices (B,) and codes (B, C, h, w). Draws depend on (seed, step, code)
    and the vector on its sample, so every rank, and any split of the batch, moves the same codes
    to the same places (random restarts: Dhariwal et al. 2020, section 3.1). None where ``ok`` is
    false. A place is drawn for every code, so that the host need not be told which are dead.
    """
    number = torch.arange(vq.num_codes, device=counts.device)
    chance = uniform(stream(seed, "restart", step), number)
    dead = (counts == 0) & (chance < vq.restart_rate) & ok
    positions = seen[0][1].shape[2] * seen[0][1].shape[3]
    global_batch = sum(len(index) for index, _ in seen) * num_ranks()
    sample = integers(stream(seed, "restart sample", step), number, global_batch)
    sample = sample + step * global_batch
    where = integers(stream(seed, "restart position", step), number, positions)
    found = vq.embedding.weight.new_zeros(vq.num_codes, vq.latent_channels)
    for index, code in seen:  # each wanted sample is in one micro-batch of one rank
        match = sample[:, None] == index[None, :]
        vector = code.flatten(2)[match.int().argmax(1), :, where]
        found = torch.where(match.any(1, keepdim=True), vector.to(found), found)
    aside = normal(stream(seed, "restart aside", step), number, (vq.latent_channels,)).to(found)
    moved = sum_over_ranks(found) * (1.0 + _JITTER * aside)
    vq.embedding.weight.copy_(torch.where(dead[:, None], moved, vq.embedding.weight))
    return dead
