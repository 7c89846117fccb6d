"""Codes that nobody chooses begin anew at places where pictures are."""

import torch
from torch import Tensor

from ldm.autoencoders.regularizers import VQ
from ldm.nn.ranks import sum_over_ranks
from ldm.random import integers, normal, stream, uniform

_JITTER = 0.01  # of each component


@torch.no_grad()
def revive_dead_codes(
    vq: VQ, counts: Tensor, seen: list[tuple[Tensor, Tensor]], *, seed: int, step: int
) -> Tensor:
    """Move dead codes onto encoder outputs of this step's global batch; their indices (D,).

    A code without ``counts`` over the global batch is moved with probability ``restart_rate``, to
    a position of a sample that is drawn for it, and a little aside: flat pictures give the same
    output at many positions, and between equal codes rounding would choose. ``seen`` holds this
    rank's global sample indices (B,) and codes (B, C, h, w). Draws depend on (seed, step, code)
    and the vector on its sample, so every rank, and any split of the batch, moves the same codes
    to the same places (random restarts: Dhariwal et al. 2020, section 3.1).
    """
    number = torch.arange(vq.num_codes, device=counts.device)
    chance = uniform(stream(seed, "restart", step), number)
    dead = number[(counts == 0) & (chance < vq.restart_rate)]
    if not len(dead):
        return dead
    positions = seen[0][1].shape[2] * seen[0][1].shape[3]
    global_batch = round(float(counts.double().sum())) // positions
    sample = integers(stream(seed, "restart sample", step), dead, global_batch)
    sample = sample + step * global_batch
    where = integers(stream(seed, "restart position", step), dead, positions)
    found = vq.embedding.weight.new_zeros(len(dead), vq.latent_channels)
    for index, code in seen:  # each wanted sample is in one micro-batch of one rank
        wanted, row = (sample[:, None] == index[None, :]).nonzero(as_tuple=True)
        found[wanted] = code.flatten(2)[row, :, where[wanted]].to(found)
    aside = normal(stream(seed, "restart aside", step), dead, (vq.latent_channels,)).to(found)
    vq.embedding.weight[dead] = sum_over_ranks(found) * (1.0 + _JITTER * aside)
    return dead
