"""Features as a network gives them: not negative, correlated, with directions that hardly vary."""

import torch


def features(count: int, size: int, *, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """(count, size) in float32; the same distribution for every seed of one size and shift."""
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(99)) / size**0.5
    rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return (rows @ (mixing * torch.logspace(0, -2, size)) + 0.3 + shift).relu()
