"""The hinge losses of a GAN, and how strongly the generator feels them."""

import torch
from torch import Tensor
from torch.nn import functional


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's loss: half of mean relu(1 - D(real)) + mean relu(1 + D(fake)); scalar.

    1 for a discriminator that always says 0; 0 where both sides are beyond the margin. Give it
    logits of detached reconstructions. Lim and Ye 2017; the factor is VQGAN's.
    """
    real = functional.relu(1.0 - real_logits.float()).mean()
    fake = functional.relu(1.0 + fake_logits.float()).mean()
    return 0.5 * (real + fake)


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """The generator's loss: - mean D(fake); scalar."""
    return -fake_logits.float().mean()


def pulls(last_layer: Tensor, *losses: Tensor) -> Tensor:
    """What each loss asks of the decoder's last layer: its gradient there, (losses, *W) detached.

    In float32 or more; the graphs of the losses are kept. Means over micro-batches and ranks are
    those of the global batch.
    """
    found = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in losses]
    wide = torch.promote_types(last_layer.dtype, torch.float32)
    return torch.stack([gradient.detach().to(wide) for gradient in found])


def adaptive_weight(pulled: Tensor, *, limit: float, eps: float = 1e-4) -> Tensor:
    """The factor that makes both losses pull equally at the decoder's last layer; scalar.

    |d reconstruction / d W| / (|d adversarial / d W| + eps), clamped to [0, limit] (Esser et al.
    2021, eq. 7, with the eps of their code), of ``pulls`` (2, *W) of the global batch; the
    configured weight is multiplied afterwards.
    """
    reconstruction, adversarial = pulled
    return (reconstruction.norm() / (adversarial.norm() + eps)).clamp(0.0, limit)


def ramp(step: int, start: int, length: int) -> float:
    """A linear rise from 0 at ``start`` to 1 at ``start + length``; a jump if the length is 0."""
    if step < start:
        return 0.0
    return min(1.0, (step - start) / length) if length > 0 else 1.0
