"""A file in the format of the published Inception, with random weights."""

from pathlib import Path

import torch

from ldm.features.inception_network import InceptionNetwork


def write_random_inception(path: Path) -> Path:
    """Weights under which activations keep their size, so that every layer says something."""
    generator = torch.Generator().manual_seed(0)

    def drawn(value: torch.Tensor, scale: float, around: float = 0.0) -> torch.Tensor:
        return torch.randn(value.shape, generator=generator) * scale + around

    state = InceptionNetwork().state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight") or name == "fc.weight":
            state[name] = drawn(value, (2.0 / value[0].numel()) ** 0.5)
        elif name.endswith(("bn.weight", "running_var")):
            state[name] = drawn(value, 0.1, around=1.0).abs()
        elif value.is_floating_point():
            state[name] = drawn(value, 0.1)
    torch.save(state, path)
    return path
