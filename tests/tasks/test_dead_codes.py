"""Dead codes begin anew where pictures are: which, where and when is a function of the seed."""

import torch
from torch import Tensor

from ldm.autoencoders.regularizers import VQ
from ldm.tasks.dead_codes import revive_dead_codes

B, C, SIDE = 4, 3, 5


def make(num_codes: int = 40, restart_rate: float = 1.0) -> VQ:
    torch.manual_seed(0)
    return VQ(num_codes=num_codes, dim=C, beta=0.25, loss_weight=1.0, restart_rate=restart_rate)


def step_of(step: int) -> tuple[Tensor, Tensor]:
    """Global sample indices and codes of a step's global batch."""
    codes = torch.randn(B, C, SIDE, SIDE, generator=torch.Generator().manual_seed(step))
    return torch.arange(B) + step * B, codes


def revived(vq: VQ, parts: int = 1, seed: int = 0, step: int = 3, ok: bool = True) -> Tensor:
    """The numbers of the codes that were moved."""
    index, codes = step_of(step)
    seen = list(zip(index.chunk(parts), codes.chunk(parts), strict=True))
    moved = revive_dead_codes(vq, vq.counts(codes), seen, seed=seed, step=step, ok=torch.tensor(ok))
    return moved.nonzero().flatten()


def test_none_moves_in_a_step_that_is_skipped() -> None:
    vq = make()
    before = vq.embedding.weight.detach().clone()
    assert not len(revived(vq, ok=False))
    assert torch.equal(vq.embedding.weight, before)


def test_only_dead_codes_move_and_each_to_a_place_in_the_batch() -> None:
    vq = make()
    before = vq.embedding.weight.detach().clone()
    _, codes = step_of(3)
    dead = (vq.counts(codes) == 0).nonzero().flatten()
    assert 10 < len(dead) < 40
    moved = revived(vq)
    assert torch.equal(moved, dead)
    after = vq.embedding.weight.detach()
    alive = vq.counts(codes) * 0 + 1
    alive[moved] = 0
    assert torch.equal(after[alive.bool()], before[alive.bool()])
    vectors = codes.movedim(1, -1).flatten(0, 2)
    distance = torch.cdist(after[moved], vectors).amin(1) / after[moved].norm(dim=1)
    assert float(distance.max()) < 0.05  # a little aside, and no farther
    assert len(after[moved].unique(dim=0)) == len(moved)  # no two alike
    chosen = torch.cdist(after[moved], vectors).argmin(1) // (SIDE * SIDE)
    assert set(chosen.tolist()) == {0, 1, 2, 3}  # from every sample


def test_the_split_of_the_batch_does_not_matter() -> None:
    whole, parts, again = make(), make(), make()
    for vq, number in ((whole, 1), (parts, 4), (again, 2)):
        revived(vq, number)
    assert torch.equal(whole.embedding.weight, parts.embedding.weight)
    assert torch.equal(whole.embedding.weight, again.embedding.weight)


def test_another_seed_or_step_draws_otherwise() -> None:
    found = []
    for seed, step in ((0, 3), (1, 3), (0, 4)):
        vq = make(restart_rate=0.5)
        found.append((revived(vq, seed=seed, step=step).tolist(), vq.embedding.weight.detach()))
    assert found[0][0] != found[1][0] and found[0][0] != found[2][0]
    assert not torch.equal(found[0][1], found[1][1])


def test_the_rate_is_the_share_of_dead_codes_that_move() -> None:
    vq = make(num_codes=4000, restart_rate=0.1)
    _, codes = step_of(3)
    dead = int((vq.counts(codes) == 0).sum())
    assert 0.08 < len(revived(vq)) / dead < 0.12
    alive = make(num_codes=1)
    before = alive.embedding.weight.detach().clone()
    assert len(revived(alive)) == 0 and torch.equal(alive.embedding.weight, before)
