"""The denoiser's loss: keyed per sample, with drops that really happen and a frozen text tower."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from ldm.autoencoders.regularizers import KL
from ldm.backbones.unet import UNet
from ldm.data.batches import LatentBatch
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Epsilon
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.losses.weighting import min_snr, uniform
from ldm.random import normal, stream
from ldm.tasks.diffusion import TIMESTEP_BINS, DiffusionTask
from ldm.tasks.trained import Trained
from ldm.text.clip import ClipText, ClipTowers

GLOBAL_BATCH = 12
CAPTIONS = ["a red circle", "a blue square", "a large green cross", ""]


class Recorder(nn.Module):
    """A network that predicts a constant and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, x, t, condition):
        self.seen.append((x, t, condition))
        return torch.zeros_like(x) + self.value


def unet():
    torch.manual_seed(1)
    network = UNet(
        in_channels=2, out_channels=2, channels=[8, 16], attention=[False, True], heads=[2, 2],
        transformer_depth=[1, 1], layers_per_level=1, context_dim=16, vector_dim=None,
        pooling_heads=None, linear_projection=True, adaptive_norm=False,
        residual_resampling=False, groups=4,
    )  # fmt: skip
    with torch.no_grad():  # residual outputs start at zero; let every weight matter
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.fixture(scope="module")
def towers():
    torch.manual_seed(0)
    return ClipTowers(
        embed_dim=16,
        vision={"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        text={"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        quick_gelu=False,
        states="last",
    )


@pytest.fixture
def make(towers):
    def task(network=None, *, drop_rate=0.1, offset_noise=0.0, weighting=uniform, seed=0):
        network = network or unet()
        trained = Trained(
            network,
            make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            learning_rate=lambda step: 0.1,
            max_gradient_norm=1e9,
            ema_decay=None,
        )
        return DiffusionTask(
            denoiser=Denoiser(
                network=network,
                schedule=scaled_linear(num_steps=1000, start=0.00085, end=0.012),
                prediction=Epsilon(),
            ),
            text_encoder=ClipText(copy.deepcopy(towers)).requires_grad_(False),
            regularizer=KL(),
            scale=LatentScale([0.5, -0.5], [2.0, 0.5]),
            trained=trained,
            global_batch=GLOBAL_BATCH,
            num_held_out=10,
            drop_rate=drop_rate,
            offset_noise=offset_noise,
            weighting=weighting,
            seed=seed,
        )

    return task


@pytest.fixture
def batch(towers):
    def some(step, index, micro_steps=1):
        index = torch.as_tensor(index)
        code = normal(stream(0, "code"), index % 7, (4, 4, 4))
        ids = towers.tokenize([CAPTIONS[int(i) % 3] for i in index])
        sizes = torch.zeros(len(index), 6)
        return LatentBatch(step, index, code, ids, sizes, micro_steps=micro_steps)

    return some


def losses_of(task, some, **settings):
    return task.losses(some, **{"seed": 0, "drop_rate": 0.0, "count": GLOBAL_BATCH} | settings)


def validated(task, blocks):
    """What the blocks' sums add up to."""
    found = [task.validate(block) for block in blocks]
    return {name: sum(sums[name] for sums in found) for name in found[0]}


def test_the_loss_of_a_sample_does_not_depend_on_the_split(make, batch):
    task = make().double()
    whole, t = losses_of(task, batch(3, range(36, 48)), seed=0, drop_rate=0.1)
    for sizes in ([4, 4, 4], [1, 11], [6, 6]):
        start, losses, times = 36, [], []
        for size in sizes:
            found = losses_of(task, batch(3, range(start, start + size)), seed=0, drop_rate=0.1)
            losses.append(found[0])
            times.append(found[1])
            start += size
        torch.testing.assert_close(torch.cat(losses), whole, rtol=1e-6, atol=0.0)
        assert torch.equal(torch.cat(times), t)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled, _ = losses_of(task, batch(3, torch.arange(36, 48)[order]), seed=0, drop_rate=0.1)
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-6, atol=0.0)


def test_every_draw_changes_with_the_step_the_index_and_the_seed(make, batch):
    recorder = Recorder()
    task = make(recorder)
    for step, index, seed in ((0, 5, 0), (1, 5, 0), (0, 12, 0), (0, 5, 1), (0, 5, 0)):
        losses_of(task, batch(step, [index]), seed=seed, drop_rate=0.0)
    (x, t, _), *others, (again, t_again, _) = recorder.seen
    assert torch.equal(x, again) and torch.equal(t, t_again)
    assert all(not torch.equal(x, other) for other, _, _ in others)


def test_a_step_is_the_same_however_it_is_split_and_each_may_be_split_in_its_own_way(
    make, batch, fit
):
    networks = []
    for splits in ((1, 1, 1), (2, 2, 2), (4, 1, 2)):
        task = make().double()
        micro = [
            batch(step, torch.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)[part], pieces)
            for step, pieces in enumerate(splits)
            for part in torch.arange(GLOBAL_BATCH).chunk(pieces)
        ]
        for data in micro:
            data.code = data.code.double()
        found = fit(task, micro)
        assert task.step == 3
        ends = [piece == pieces for pieces in splits for piece in range(1, pieces + 1)]
        assert ["gradient_norm" in logs for logs in found] == ends
        networks.append(task.denoiser.network.state_dict())
    for other in networks[1:]:
        for name, value in networks[0].items():
            torch.testing.assert_close(other[name], value, rtol=0.0, atol=1e-8)


def test_a_tenth_of_the_captions_is_dropped_for_the_samplers_null(make, batch):
    recorder = Recorder()
    task = make(recorder)
    for step in range(10):
        losses_of(
            task, batch(step, torch.arange(step * 400, (step + 1) * 400)), seed=0, drop_rate=0.1
        )
    tokens = torch.cat([condition.tokens for _, _, condition in recorder.seen])
    null = task.text_encoder(task.text_encoder.tokenize([""])).tokens  # what sampling uses
    dropped = (tokens == null).flatten(1).all(1)
    assert abs(float(dropped.float().mean()) - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    kept = torch.cat([batch(0, torch.arange(s * 400, (s + 1) * 400)).ids for s in range(10)])
    expected = task.text_encoder(kept).tokens
    torch.testing.assert_close(tokens[~dropped], expected[~dropped])
    per_step = dropped.view(10, 400).sum(1)
    assert per_step.unique().numel() > 1 and not dropped.view(10, 400).all(0).any()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_none_or_all_are_dropped(make, batch, rate):
    recorder = Recorder()
    task = make(recorder)
    losses_of(task, batch(0, range(30)), seed=0, drop_rate=rate)
    tokens = recorder.seen[0][2].tokens
    null = task.text_encoder.null().tokens
    assert bool((tokens == null).flatten(1).all(1).all()) == (rate == 1.0)


def test_what_enters_the_network_is_the_normalised_noised_draw(make, batch):
    recorder = Recorder()
    task = make(recorder)
    data = batch(2, range(24, 30))
    losses, t = losses_of(task, data, seed=0, drop_rate=0.0)
    draw = normal(stream(0, "posterior", 2), data.index, (2, 4, 4))
    mean, logvar = data.code.chunk(2, dim=1)
    x0 = (mean + (0.5 * logvar).exp() * draw - task.scale.mean) / task.scale.std
    eps = normal(stream(0, "noise", 2), data.index, (2, 4, 4))
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - beta, 0)[t].float().view(-1, 1, 1, 1)
    expected = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    torch.testing.assert_close(recorder.seen[0][0], expected, rtol=1e-4, atol=1e-5)
    # A network that says zero pays the variance of the noise.
    torch.testing.assert_close(losses.detach(), eps.square().flatten(1).mean(1))


def test_offset_noise_is_one_draw_per_channel_keyed_by_the_sample(make, batch, fit):
    plain, shifted = Recorder(), Recorder()
    fit(make(plain), [batch(0, range(12))])
    fit(make(shifted, offset_noise=0.3), [batch(0, range(12))])
    (x, t, _), (other, t_other, _) = plain.seen[0], shifted.seen[0]
    assert torch.equal(t, t_other)
    sigma = make().denoiser.schedule.sigma(t).float().view(-1, 1, 1, 1)
    offset = 0.3 * normal(stream(0, "offset_noise", 0), torch.arange(12), (2, 1, 1))
    torch.testing.assert_close(other - x, (sigma * offset).expand_as(x), rtol=1e-4, atol=1e-5)
    task = make()
    whole, _ = losses_of(task, batch(3, range(36, 48)), offset_noise=0.3)
    parts = [losses_of(task, batch(3, range(i, i + 4)), offset_noise=0.3)[0] for i in (36, 40, 44)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=0.0)
    # What is to be predicted has the offset too: a network that says zero pays for it.
    paid = [
        losses_of(make(Recorder()), batch(0, range(400)), offset_noise=offset)[0].mean()
        for offset in (0.0, 0.5)
    ]
    assert (paid[1] - paid[0]).item() == pytest.approx(0.5**2, rel=0.2)
    block = [batch(0, range(12))]
    assert torch.equal(
        validated(make(offset_noise=0.5), block)["loss"], validated(make(), block)["loss"]
    )


def test_validation_is_deterministic_and_adds_up_over_bins(make, batch):
    blocks = [batch(0, range(start, start + 12)) for start in range(0, 60, 12)]
    task = make()
    first = validated(task, blocks)
    other_seed = make(seed=5)
    other_seed.step = 100
    for again in (validated(task, blocks), validated(other_seed, blocks)):
        assert all(torch.equal(again[name], first[name]) for name in first)
    assert float(first["loss_count"]) == 60
    bins = [float(first[f"loss_bin_{i}"]) for i in range(TIMESTEP_BINS)]
    counts = [float(first[f"loss_bin_{i}_count"]) for i in range(TIMESTEP_BINS)]
    assert sum(counts) == 60 and min(counts) >= 5  # stratified: every noise level is seen
    assert sum(bins) == pytest.approx(float(first["loss"]), rel=1e-5)
    # Captions are kept: dropping all of them changes nothing that validation sees.
    assert torch.equal(validated(make(drop_rate=1.0), blocks)["loss"], first["loss"])


def test_the_weighting_is_the_training_losss_alone(make, batch, fit):
    def half(prediction, alpha, sigma):
        return 0.5 * uniform(prediction, alpha, sigma)

    block = batch(0, range(12))
    plain, weighted = make(), make(weighting=half)
    assert torch.equal(validated(weighted, [block])["loss"], validated(plain, [block])["loss"])
    whole = [p.detach().clone() for p in plain.denoiser.network.parameters()]
    for task in (plain, weighted):
        fit(task, [block])
    for start, one, two in zip(
        whole, plain.denoiser.network.parameters(), weighted.denoiser.network.parameters(),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(two - start, 0.5 * (one - start), rtol=1e-4, atol=1e-7)


def test_validation_gives_sums_that_ranks_can_add(make, batch):
    task = make().double()
    blocks = [batch(0, range(start, start + 12)) for start in range(0, 48, 12)]
    whole = validated(task, blocks)
    halves = validated(task, blocks[::2]), validated(task, blocks[1::2])
    for name, value in whole.items():
        torch.testing.assert_close(halves[0][name] + halves[1][name], value, rtol=1e-5, atol=1e-6)


def test_the_text_encoder_is_frozen_and_in_no_checkpoint(make, batch, fit):
    task = make()
    before = {name: value.clone() for name, value in task.text_encoder.state_dict().items()}
    network = {n: v.clone() for n, v in task.denoiser.network.state_dict().items()}
    fit(task, [batch(step, range(step * 12, step * 12 + 12)) for step in range(2)])
    assert not any(p.requires_grad for p in task.text_encoder.parameters())
    assert all(torch.equal(before[n], v) for n, v in task.text_encoder.state_dict().items())
    assert any(
        not torch.equal(network[n], v) for n, v in task.denoiser.network.state_dict().items()
    )
    assert list(task.trained) == ["denoiser"]
    owned = {id(p) for p in task.trained["denoiser"].network.parameters()}
    assert not owned & {id(p) for p in task.text_encoder.parameters()}


def test_validation_covers_all_noise_levels_however_little_is_held_out(make, batch):
    task = make(Recorder())
    found = validated(task, [batch(0, range(4)), batch(0, range(4, 10))])  # 10 held out of 12
    counts = [int(found[f"loss_bin_{i}_count"]) for i in range(TIMESTEP_BINS)]
    assert sum(counts) == 10 and min(counts) >= 1


def test_averages_follow_their_network_when_training_begins(make, monkeypatch):
    task, followed = make(), []
    monkeypatch.setattr(Trained, "follow", lambda self: followed.append(self))
    task.on_fit_start()
    assert followed == list(task.trained.values())


def test_validation_says_what_predictors_that_learned_nothing_would_pay(make, batch):
    task = make(Recorder())
    blocks = [batch(0, range(start, start + 12)) for start in range(0, 600, 12)]
    found = validated(task, blocks)
    means = {n: float(v / found[f"{n}_count"]) for n, v in found.items() if f"{n}_count" in found}
    assert means["zero_loss"] == pytest.approx(1.0)
    assert means["loss"] == pytest.approx(1.0, rel=0.02)  # it answers zero, and learned nothing
    _, t = losses_of(task, batch(0, range(600)), seed=stream(0, "validation"), count=10)
    squares = task.denoiser.schedule.alpha(t).square().float()
    assert means["linear_loss"] == pytest.approx(float(squares.mean()), rel=1e-4)
    for i in (0, 7):
        inside = squares[(t * TIMESTEP_BINS // 1000) == i]
        assert means[f"linear_loss_bin_{i}"] == pytest.approx(float(inside.mean()), rel=1e-3)


def test_a_weighted_loss_is_logged_where_it_is_another(make, batch, fit):
    weighting = partial(min_snr, gamma=5.0)
    block = batch(0, range(12))
    weighted, plain = make(weighting=weighting), make(weighting=partial(uniform))
    assert not any("weighted" in name for name in (*plain.validate(block), *fit(plain, [block])[0]))
    with torch.no_grad():
        losses, t = losses_of(weighted, block, seed=stream(0, "validation"), count=10)
    schedule = weighted.denoiser.schedule
    expected = losses * weighting(Epsilon(), schedule.alpha(t), schedule.sigma(t))
    found = weighted.validate(block)
    assert float(found["weighted_loss"]) == pytest.approx(float(expected.sum()), rel=1e-5)
    logs = fit(weighted, [block])[0]
    assert 0.0 < float(logs["weighted_loss"]) < float(logs["loss"])
