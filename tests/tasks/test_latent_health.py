"""The health of latents: moments that add up, channels that carry nothing, peaks that overflow."""

import json

import pytest
import torch

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ
from ldm.interop.diffusers import read_autoencoder, write_autoencoder
from ldm.random import normal, stream
from ldm.tasks.latent_health import DecoderPeaks, latent_health, latent_sums
from tests.tasks.test_autoencoder import batch, make

INDEX = torch.arange(40)


def codes(means, sigmas):
    """Codes (40, 2 C, 6, 6) whose channels have these spreads of means and these sigmas."""
    drawn = normal(stream(0, "means"), INDEX, (len(means), 6, 6))
    mean = drawn * torch.tensor(means).view(-1, 1, 1) + 0.5
    logvar = 2.0 * torch.tensor(sigmas).log().view(-1, 1, 1).expand_as(mean)
    return torch.cat([mean, logvar], dim=1)


def found(*blocks, regularizer=None):
    sums = [latent_sums(regularizer or KL(), block) for block in blocks]
    count = sum(map(len, blocks))
    health = latent_health({name: sum(s[name] for s in sums) / count for name in sums[0]})
    return {name: float(value) for name, value in health.items()}


def test_the_spread_is_that_of_draws_and_blocks_add_up():
    code = codes([2.0, 0.1], [0.5, 0.3])
    whole, parts = found(code), found(code[:7], code[7:20], code[20:])
    for name in ("latent_std_0", "latent_std_1", "dead_channels"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-12)
    many = [KL().draw(code, normal(stream(k, "draw"), INDEX, (2, 6, 6))) for k in range(40)]
    spread = torch.cat(many).std((0, 2, 3))
    assert [whole["latent_std_0"], whole["latent_std_1"]] == pytest.approx(
        spread.tolist(), rel=0.01
    )
    assert not any("square" in name or "noise" in name or "mean" in name for name in whole)


@pytest.mark.parametrize(
    "means, sigmas, dead",
    [
        ([2.0, 1.0], [0.5, 0.5], 0),
        ([2.0, 1.0], [0.01, 9.0], 0),  # a third of the noise still tells much
        ([2.0, 0.05], [0.1, 1.0], 1),  # collapsed to the prior
        ([2.0, 0.01], [1e-4, 1e-4], 1),  # hardly moves beside the other
        ([0.0, 0.0], [1.0, 1.0], 2),
    ],
)
def test_channels_that_carry_nothing(means, sigmas, dead):
    assert found(codes(means, sigmas))["dead_channels"] == dead


def test_a_codebook_has_no_noise():
    regularizer = VQ(num_codes=4, dim=2, beta=0.25, loss_weight=1.0, restart_rate=0.0)
    code = codes([2.0, 0.01], [1.0, 1.0])[:, :2]
    health = found(code, regularizer=regularizer)
    assert health["latent_std_0"] == pytest.approx(float(code[:, 0].std(correction=0)), rel=1e-6)
    assert health["dead_channels"] == 1


def test_outliers_are_a_share_of_all_values():
    code = codes([1.0, 1.0], [0.1, 0.1])
    assert found(code)["outlier_share"] == 0.0
    code[3, 1, 2, 2], code[5, 0, 0, 0] = 60.0, -60.0
    assert found(code)["outlier_share"] == pytest.approx(2 / (40 * 2 * 36))


def decoder(scale):
    torch.manual_seed(0)
    made = Autoencoder(
        image_channels=3, latent_channels=2, channels=[4, 8], attention=[False, True],
        mid_attention=True, layers_per_level=1, groups=2, regularizer=KL(),
    ).double()  # fmt: skip
    with torch.no_grad():
        made.decoder.up_blocks[0].resnets[0].conv1.weight.mul_(scale)
    return made


def test_the_peak_is_the_largest_value_inside_each_block_of_the_decoder():
    autoencoder = decoder(1.0)
    latents = [normal(stream(k, "z"), INDEX[:4], (2, 6, 6)).double() for k in range(2)]
    peaks = DecoderPeaks(autoencoder)
    with torch.no_grad(), peaks.watched():
        whole = [autoencoder.decode(latent) for latent in latents]
    with torch.no_grad():
        again = [autoencoder.decode(latent) for latent in latents]
        inputs = [autoencoder.decoder.conv_in(autoencoder.post_quant_conv(z)) for z in latents]
        middle = [autoencoder.decoder.mid_block(x) for x in inputs]
    assert all(torch.equal(one, two) for one, two in zip(whole, again, strict=True))
    seen = peaks.found()
    assert list(seen) == [f"decoder_peak_{n}_max" for n in ("mid", "up_0", "up_1")]
    assert float(seen["decoder_peak_mid_max"]) >= float(torch.cat(middle).abs().max()) > 0.0
    assert not any(module._forward_hooks for module in autoencoder.modules())


@pytest.mark.parametrize("scale, fits", [(1.0, 1.0), (1e6, 0.0)])
def test_whether_fp16_will_do(scale, fits):
    autoencoder = decoder(scale)
    peaks = DecoderPeaks(autoencoder)
    with torch.no_grad(), peaks.watched():
        autoencoder.decode(normal(stream(0, "z"), INDEX[:4], (2, 6, 6)).double())
    means = {name.removesuffix("_max"): value for name, value in peaks.found().items()}
    moments = {name: torch.ones(2) for name in ("latent_mean", "latent_square", "latent_noise")}
    assert float(latent_health(moments | means)["fits_half"]) == fits
    assert bool(means["decoder_peak_up_0"] > 65504 / 4) is (fits == 0.0)  # inside the block, too
    unseen = {name: torch.zeros(()) for name in means}
    assert "fits_half" not in latent_health(moments | unseen)


@pytest.mark.parametrize("peak, upcast", [(100.0, False), (20_000.0, True)])
def test_the_verdict_goes_into_the_models_config_and_stays_there(tmp_path, peak, upcast):
    task = make()
    totals = task.validate(batch())
    assert task.autoencoder.force_upcast is True  # until it was seen
    task.conclude(totals | {"decoder_peak_mid_max": torch.tensor(peak)})
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_autoencoder(task.autoencoder, folder, scale=None)
        assert json.loads((folder / "config.json").read_text())["force_upcast"] is upcast
        task.autoencoder = read_autoencoder(folder)
