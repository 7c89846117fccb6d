"""The health of an autoencoder's latents: what makes them easy or impossible to denoise."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import Regularizer

HALF_LIMIT = torch.finfo(torch.float16).max  # 65,504
# Pictures and latents that were not held out may reach further than those that were.
_HALF_MARGIN = 4.0
_FAR = 5.0  # standard deviations; of a normal distribution 6e-7 lie beyond
# A channel is dead whose noise is ten times its signal, or that hardly moves beside the others.
_LEAST_SIGNAL_TO_NOISE, _LEAST_SPREAD = 0.1, 0.01
_MOMENTS = ("latent_mean", "latent_square", "latent_noise")


def latent_sums(regularizer: Regularizer, code: Tensor) -> dict[str, Tensor]:
    """Sums over the pictures of a block of codes (B, S, h, w), float64: they add up over blocks.

    Per channel (C,) the posterior's mean, its square and the posterior's variance; and
    "outlier_share" (), how many of the means lie beyond 5 standard deviations of their channel in
    this block.
    """
    latent = regularizer.mode(code)
    # One standard deviation away from the mean: 0 for a regulariser that draws nothing.
    sigma = (regularizer.draw(code, torch.ones_like(latent)) - latent).double()
    latent = latent.double()
    values = (latent, latent.square(), sigma.square())
    found = {name: v.mean((2, 3)).sum(0) for name, v in zip(_MOMENTS, values, strict=True)}
    centred = latent - latent.mean((0, 2, 3), keepdim=True)
    spread = centred.square().mean((0, 2, 3), keepdim=True).sqrt()
    far = centred.abs() > _FAR * spread
    return found | {"outlier_share": far.double().mean((1, 2, 3)).sum()}


def latent_health(means: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means of validation with each channel's spread in place of its raw moments.

    "latent_std_0", ...: of a draw from the posterior, as stage diffusion sees it; "dead_channels":
    how many carry next to nothing; "fits_half": 1 where the decoder's largest value stays below a
    quarter of fp16's limit, 0 where not, absent where none was seen.
    """
    kept = {name: value for name, value in means.items() if name not in _MOMENTS}
    mean, square, variance = (means[name] for name in _MOMENTS)
    signal, noise = (square - mean.square()).clamp(min=0.0).sqrt(), variance.sqrt()
    spread = torch.hypot(signal, noise)
    kept |= {f"latent_std_{channel}": value for channel, value in enumerate(spread)}
    least = torch.maximum(_LEAST_SIGNAL_TO_NOISE * noise, _LEAST_SPREAD * signal.max())
    kept["dead_channels"] = (signal <= least).sum()
    peaks = [value for name, value in means.items() if name.startswith("decoder_peak_")]
    if peaks and float(peak := torch.stack(peaks).max()) > 0.0:
        kept["fits_half"] = peak < HALF_LIMIT / _HALF_MARGIN
    return kept


class HalfPrecision:
    """What was found last of decoding in fp16: a resumed run need not look again to say it."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder

    def state_dict(self) -> dict[str, bool]:
        return {"force_upcast": self.autoencoder.force_upcast}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        self.autoencoder.force_upcast = state["force_upcast"]


class DecoderPeaks:
    """The largest |value| that any layer of each block of a decoder has handed on."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        decoder, device = autoencoder.decoder, autoencoder.last_layer.device
        self._blocks: dict[str, nn.Module] = {"mid": decoder.mid_block}
        self._blocks |= {f"up_{i}": block for i, block in enumerate(decoder.up_blocks)}
        self._peaks = {name: torch.zeros((), device=device) for name in self._blocks}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block what is decoded is looked at."""
        hooks = [
            module.register_forward_hook(partial(self._see, name))
            for name, block in self._blocks.items()
            for module in block.modules()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        peak = output.detach().abs().amax().float()
        self._peaks[name] = torch.maximum(self._peaks[name], peak)

    def found(self) -> dict[str, Tensor]:
        """decoder_peak_mid_max, decoder_peak_up_0_max, ..."""
        return {f"decoder_peak_{name}_max": peak for name, peak in self._peaks.items()}
