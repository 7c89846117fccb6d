"""How close reconstructions are to their originals: PSNR, SSIM, and the mean of any such number.

The reference is the image as the autoencoder saw it. Both sides are 8-bit pictures: the
reconstruction is clipped to [-1, 1] and rounded, an original beyond [-1, 1] is an error.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from ldm.features.quantise import quantise

WINDOW_PX = 11


def _checked(image: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """Both as 8-bit pictures in [-1, 1]; ValueError for unequal shapes or a wrong value range."""
    if image.shape != reconstruction.shape:
        raise ValueError(
            f"An image of shape {tuple(image.shape)} cannot be compared with a reconstruction of "
            f"shape {tuple(reconstruction.shape)}."
        )
    if float(image.abs().max()) > 1.0 + 1e-3:
        raise ValueError(
            f"The original reaches {float(image.abs().max()):.4g}; images must lie in [-1, 1]."
        )
    return quantise(image), quantise(reconstruction)


def peak_signal_to_noise(image: Tensor, reconstruction: Tensor) -> Tensor:
    """PSNR in dB of each image (B,) float64: 10 log10(2^2 / MSE); infinite for an exact one.

    The data range is 2, for pixels in [-1, 1], which equals 255 for 8-bit pixels.
    """
    image, reconstruction = _checked(image, reconstruction)
    error = (image.double() - reconstruction.double()).square().flatten(1).mean(1)
    # Levels are multiples of 2 / 255, so a real error is far above float32's rounding.
    error = torch.where(error < 1e-12, 0.0, error)
    return 10.0 * torch.log10(4.0 / error)


def structural_similarity(image: Tensor, reconstruction: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) of each image (B,) float64; 1 for equal images, at most 1.

    torchmetrics' function: Gaussian window of 11 px with sigma 1.5, per channel, borders cropped.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, reconstruction = _checked(image, reconstruction)
    if min(image.shape[-2:]) < WINDOW_PX:
        raise ValueError(
            f"SSIM needs images of at least {WINDOW_PX} px, these have {min(image.shape[-2:])}. "
            "Leave it out of metrics=."
        )
    similarity = structural_similarity_index_measure(
        reconstruction, image, data_range=2.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity.double()


class MeanOverImages(Metric):
    """The mean over images of what was found of each (B,); infinite if any is. Sums are float64."""

    is_differentiable = False
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        self.total += values.double().sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        return self.total / self.count
