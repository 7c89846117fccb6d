"""What every regulariser of an autoencoder can do."""

from typing import Protocol

from torch import Tensor


class Regularizer(Protocol):
    """Between the encoder's raw output, the code that is stored, and the latent that is decoded.

    One that learns something is an ``nn.Module``; the autoencoder then trains it with itself.
    """

    codes_per_latent: int  # S / C

    @property
    def latent_channels(self) -> int | None:
        """C where the regulariser fixes it; None where it takes any."""
        ...

    def code(self, raw: Tensor) -> Tensor:
        """The code to store, from the encoder's raw output; both (B, S, h, w)."""
        ...

    def draw(self, code: Tensor, noise: Tensor) -> Tensor:
        """A latent (B, C, h, w) from the code and standard normal noise (B, C, h, w)."""
        ...

    def mode(self, code: Tensor) -> Tensor:
        """The most likely latent (B, C, h, w)."""
        ...

    def decodable(self, latent: Tensor) -> Tensor:
        """What the decoder is given for a latent, drawn or denoised; both (B, C, h, w)."""
        ...

    def penalty(self, code: Tensor) -> Tensor:
        """The price of the code per image, in the regulariser's own unit: (B,), float32 or more."""
        ...

    def weight(self, *, kl: float, elements: int) -> float:
        """What a unit of penalty costs beside a likelihood summed over an image's ``elements``.

        ``kl`` is the configured weight of a nat.
        """
        ...

    def measures(self, code: Tensor) -> dict[str, Tensor]:
        """Numbers worth watching, by name, each (B,)."""
        ...

    def counts(self, code: Tensor) -> Tensor | None:
        """How often each entry of a codebook is chosen: (num_codes,) float32; None without one."""
        ...
