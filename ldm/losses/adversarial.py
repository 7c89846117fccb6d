"""The hinge losses of a GAN, and how strongly the generator feels them."""

from collections.abc import Callable

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


def _identity(gradient: Tensor) -> Tensor:
    return gradient


def adaptive_weight(
    reconstruction_loss: Tensor,
    adversarial_loss: Tensor,
    last_layer: Tensor,
    *,
    limit: float,
    eps: float = 1e-4,
    reduce: Callable[[Tensor], Tensor] = _identity,
) -> Tensor:
    """The factor that makes both losses pull equally at the decoder's last layer; scalar, detached.

    |d reconstruction / d W| / (|d adversarial / d W| + eps), clamped to [0, limit] (Esser et al.
    2021, eq. 7, with the eps of their code); the configured weight is multiplied afterwards.
    ``reduce`` averages a gradient over ranks before its norm is taken, so that any number of
    ranks finds the weight of the global batch. The graphs of both losses are kept.
    """

    def norm_of_gradient(loss: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(loss, last_layer, retain_graph=True)
        return reduce(gradient.detach().float()).norm()

    ratio = norm_of_gradient(reconstruction_loss) / (norm_of_gradient(adversarial_loss) + eps)
    return ratio.clamp(0.0, limit).detach()


def ramp(step: int, start: int, length: int) -> float:
    """A linear rise from 0 at ``start`` to 1 at ``start + length``; a jump if the length is 0."""
    if step < start:
        return 0.0
    return min(1.0, (step - start) / length) if length > 0 else 1.0
