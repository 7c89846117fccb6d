"""Reconstructions are compared with their originals in full float32, and exact ones are told."""

import torch

from ldm.apps.evaluations.measure import RECONSTRUCTIONS, Block
from ldm.apps.evaluations.reconstruction import Pairs, reconstruction
from tests.apps.evaluations.given import Given, block


def reconstructed(*, exact):
    pictures, others = block(3).images, block(3, seed=1).images
    return Given({RECONSTRUCTIONS: [Block(pictures if exact else others, [""] * 3, pictures)]})


def test_the_means_over_pictures():
    setting = reconstructed(exact=False)
    measure = reconstruction(setting)
    found = {number.name: number.value for number in measure.numbers(setting)}
    for observer in measure.observers[RECONSTRUCTIONS]:
        rows = observer(setting.blocks[RECONSTRUCTIONS][0])[observer.name]
        assert found.pop(observer.name) == float(rows.double().mean())
    assert not found


def test_an_infinite_mean_is_left_out_and_told(capsys):
    setting = reconstructed(exact=True)
    (found,) = reconstruction(setting).numbers(setting)
    assert found.name == "ssim" and found.value == 1.0
    assert capsys.readouterr().out.startswith("psnr: left out, it is infinite")


def test_networks_compute_in_full_float32():
    seen = []

    def compare(original, reconstruction):
        seen.append((torch.get_float32_matmul_precision(), torch.is_grad_enabled()))
        return torch.zeros(len(original))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        Pairs("lpips", compare, {})(block(2)._replace(originals=block(2).images))
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [("highest", False)]
