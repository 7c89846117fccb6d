"""Batch normalisation over the global batch, whatever the number of processes and the device."""

import torch
from torch import Tensor, nn


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics are those of all processes' batches: (B, C, h, w) -> same.

    Equal to BatchNorm2d (Ioffe and Szegedy 2015) on the concatenated batch, gradients included;
    torch's SyncBatchNorm does this on GPUs only. Ranks must hold equally many samples.
    """

    def forward(self, x: Tensor) -> Tensor:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not self.training or not distributed:
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        x = x if x.dtype == torch.float64 else x.float()
        ranks = torch.distributed.get_world_size()
        mean = all_reduce(x.mean((0, 2, 3))) / ranks
        centred = x - mean.view(1, -1, 1, 1)  # before squaring: large means would leave nothing
        variance = all_reduce(centred.square().mean((0, 2, 3))) / ranks
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            count = x.numel() / x.shape[1] * ranks
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.1)
        normal = centred * (variance.view(1, -1, 1, 1) + self.eps).rsqrt()
        return normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def over_global_batch(network: nn.Module) -> None:
    """Replace every BatchNorm2d in a network by its global twin, in place, same parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                twin = GlobalBatchNorm2d(child.num_features, eps=child.eps)
                twin.load_state_dict(child.state_dict())
                setattr(module, name, twin)
