"""How much of a picture survives the autoencoder?"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    Block,
    Measure,
    Noted,
    Number,
    Observer,
    Setting,
)
from ldm.apps.evaluations.observers.exact import exact
from ldm.losses.lpips import pretrained_lpips
from ldm.metrics.notes import Rows


class Pairs:
    """Notes of each reconstruction how it compares with its original."""

    def __init__(
        self, name: str, compare: Callable[[Tensor, Tensor], Tensor], protocol: dict[str, Any]
    ) -> None:
        self.name, self.protocol, self._compare = name, protocol, compare

    @exact()
    def __call__(self, block: Block) -> Rows:
        assert block.originals is not None
        return {self.name: self._compare(block.originals, block.images)}


def psnr(setting: Setting) -> Measure:
    """The mean peak signal-to-noise ratio in dB through the posterior's mode."""
    from ldm.metrics.reconstruction import peak_signal_to_noise

    return _mean(setting, Pairs("psnr", peak_signal_to_noise, {"data_range": "8 bit"}))


def ssim(setting: Setting) -> Measure:
    """The mean structural similarity (Wang et al. 2004)."""
    from ldm.metrics.reconstruction import WINDOW_PX, structural_similarity

    protocol = {"data_range": "8 bit", "window": f"Gaussian, {WINDOW_PX} px, sigma 1.5"}
    return _mean(setting, Pairs("ssim", structural_similarity, protocol))


def lpips(setting: Setting) -> Measure:
    """The mean learned perceptual distance (Zhang et al. 2018), by VGG16."""
    distance = pretrained_lpips(setting.weights_dir, allow_unknown=setting.allow_unknown_weights)

    def compare(original: Tensor, reconstruction: Tensor) -> Tensor:
        return distance.to(original.device)(original, reconstruction)

    return _mean(setting, Pairs("lpips", compare, distance.protocol))


def reconstruction(setting: Setting) -> Measure:
    """PSNR and SSIM."""
    both = psnr(setting), ssim(setting)
    observers = [o for measure in both for o in measure.observers[RECONSTRUCTIONS]]

    def numbers(noted: Noted) -> Iterator[Number]:
        for measure in both:
            yield from measure.numbers(noted)

    return Measure({RECONSTRUCTIONS: observers}, numbers)


def _mean(setting: Setting, observer: Observer) -> Measure:
    from ldm.metrics.reconstruction import MeanOverImages

    setting.count(RECONSTRUCTIONS)  # which says what lacks

    def numbers(noted: Noted) -> Iterator[Number]:
        metric = alone(MeanOverImages())
        for values in noted(RECONSTRUCTIONS, observer).blocks(observer.name):
            metric.update(values)
        if not math.isfinite(mean := float(metric.compute())):
            print(f"{observer.name}: left out, it is infinite, as some reconstruction is exact")
            return
        protocol = noted.protocol(RECONSTRUCTIONS) | observer.protocol
        yield Number(observer.name, mean, protocol)

    return Measure({RECONSTRUCTIONS: [observer]}, numbers)
