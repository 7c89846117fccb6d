"""Weights kept in 16 bits, but for those of normalisation."""

import torch
from torch import nn

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


def halve_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Turn the parameters into ``dtype`` in place; those of norms stay, which sum in float32."""
    for module in network.modules():
        if not isinstance(module, _NORMS):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
