"""The adversarial step: every term reaches the encoder, neither network moves the other."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ
from ldm.data.batches import ImageBatch
from ldm.losses.autoencoder import AutoencoderWeights
from ldm.losses.own_perceptual import OwnPerceptual
from ldm.losses.patch_gan import PatchGAN
from ldm.random import normal, stream
from ldm.tasks.autoencoder import AutoencoderTask, Likelihood
from ldm.tasks.trained import Trained

PLAIN = {"l1": 1.0, "l2": 0.0, "perceptual": 0.0, "kl": 1e-6, "gan": 0.0}
START = {"disc_start": 0, "gan_start": 0, "gan_ramp_steps": 0, "adaptive_limit": 1e4}


class Features(nn.Module):
    """Two random layers, frozen."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)])
        self.requires_grad_(False)

    def layers(self, images):
        first = self.convs[0](images)
        return [first, self.convs[1](first.relu())]


CODEBOOK = {"num_codes": 24, "dim": 2, "beta": 0.25, "loss_weight": 1.0, "restart_rate": 0.0}


def make(
    *,
    with_discriminator=True,
    learn_logvar=True,
    double=False,
    codebook=None,
    ema_decay=None,
    **weights,
):
    """A tiny task; the same initial weights whatever is asked."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(
        image_channels=3, latent_channels=2, channels=[4, 8], attention=[False, False],
        mid_attention=False, layers_per_level=1, groups=2,
        regularizer=KL() if codebook is None else VQ(**(CODEBOOK | codebook)),
    )  # fmt: skip
    discriminator = PatchGAN(in_channels=3, width=4, num_layers=1, norm="group")
    perceptual = OwnPerceptual(Features())
    likelihood = Likelihood()
    if double:
        autoencoder, discriminator, likelihood = (
            part.double() for part in (autoencoder, discriminator, likelihood)
        )
    trained = partial(
        Trained,
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        learning_rate=lambda step: 1e-5,
        max_gradient_norm=1e9,
        ema_decay=ema_decay,
    )
    parts = {"autoencoder": trained(autoencoder)}
    if learn_logvar:
        parts["likelihood"] = trained(likelihood)
    else:
        likelihood.requires_grad_(False)
    if with_discriminator:
        parts["discriminator"] = trained(discriminator)
    return AutoencoderTask(
        autoencoder=autoencoder,
        likelihood=likelihood,
        discriminator=discriminator if with_discriminator else None,
        perceptual=perceptual,
        weights=AutoencoderWeights(**(PLAIN | START | weights)),
        trained=parts,
        seed=0,
    )


def batch(step=0, size=4, start=None, dtype=torch.float32, micro_steps=1):
    index = torch.arange(size) + (4 * step if start is None else start)
    image = normal(stream(0, "picture"), index, (3, 16, 16)).tanh().to(dtype)
    ids = torch.empty(size, 0, dtype=torch.int64)
    return ImageBatch(step, index, image, ids, micro_steps=micro_steps)


def generator_gradients(task, of="autoencoder", data=None):
    data = data or batch()
    loss, logs = task.generator_loss(data.image, *task.reconstruct(data))
    network = getattr(task, of)
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    names = [name for name, _ in network.named_parameters()]
    return dict(zip(names, found, strict=True)), logs


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def validated(task, blocks):
    """What the blocks' sums add up to."""
    found = [task.validate(block) for block in blocks]
    return {name: sum(sums[name] for sums in found) for name in found[0]}


@pytest.mark.parametrize("term", ["l1", "l2", "perceptual", "kl"])
def test_each_term_alone_reaches_the_encoder(term):
    nothing = dict.fromkeys(PLAIN, 0.0)
    gradients, _ = generator_gradients(make(**(nothing | {term: 1.0})))
    encoder = [value for name, value in gradients.items() if name.startswith("encoder.")]
    assert all(bool(value.isfinite().all()) for value in encoder)
    assert float(gradients["encoder.conv_in.weight"].abs().max()) > 0.0
    zero, _ = generator_gradients(make(**nothing))
    assert not any(bool(value.any()) for value in zero.values() if value is not None)


def test_the_adversarial_term_alone_reaches_the_encoder():
    # Its adaptive weight is measured against the likelihood, which is therefore subtracted.
    both, logs = generator_gradients(make(gan=1.0))
    plain, _ = generator_gradients(make(gan=0.0))
    difference = (both["encoder.conv_in.weight"] - plain["encoder.conv_in.weight"]).abs().max()
    assert float(difference) > 1e-3 * float(plain["encoder.conv_in.weight"].abs().max())
    # The adaptive weight makes both pull equally at the last layer.
    pull = (both["decoder.conv_out.weight"] - plain["decoder.conv_out.weight"]).norm()
    torch.testing.assert_close(pull, plain["decoder.conv_out.weight"].norm(), rtol=0.02, atol=0.0)
    assert float(logs["d_weight"]) > 0.0


def test_the_generators_loss_leaves_the_discriminator_alone():
    task = make(gan=1.0)
    before = weights_of(task.discriminator)
    data = batch()
    loss, _ = task.generator_loss(data.image, *task.reconstruct(data))
    loss.backward()
    assert all(parameter.grad is None for parameter in task.discriminator.parameters())
    assert same(before, task.discriminator.state_dict())
    assert all(p.grad is not None for p in task.autoencoder.parameters())


def test_the_discriminators_loss_leaves_the_autoencoder_alone():
    task = make(gan=1.0)
    data = batch()
    reconstruction, _ = task.reconstruct(data)
    loss, logs = task.discriminator_loss(data.image, reconstruction)
    loss.backward()
    assert all(p.grad is None for p in (*task.autoencoder.parameters(), task.likelihood.logvar))
    convs = [m for m in task.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert all(float(conv.weight.grad.abs().max()) > 0.0 for conv in convs)
    assert set(logs) == {"d_loss", "d_accuracy", "logits_real", "logits_fake"}


def test_pictures_and_reconstructions_are_normalised_apart():
    """Statistics of a batch norm over both would tell the discriminator which half is which."""
    task = make()
    task.discriminator = PatchGAN(in_channels=3, width=4, num_layers=1, norm="batch").train()
    data = batch()
    reconstruction, _ = task.reconstruct(data)
    alone = [copy.deepcopy(task.discriminator)(x) for x in (data.image, reconstruction)]
    _, logs = task.discriminator_loss(data.image, reconstruction)
    for name, logits in zip(("logits_real", "logits_fake"), alone, strict=True):
        torch.testing.assert_close(logs[name], logits.mean())


def test_one_backward_pass_gives_each_network_its_own_gradient(fit):
    """The step that both take together equals the steps that each would take alone."""
    task, reference = make(gan=1.0), make(gan=1.0)
    before = copy.deepcopy(reference)
    fit(task, [batch()])
    data = batch()
    reconstruction, code = reference.reconstruct(data)
    own, _ = reference.generator_loss(data.image, reconstruction, code)
    other, _ = reference.discriminator_loss(data.image, reconstruction)
    for network, loss in ((reference.autoencoder, own), (reference.discriminator, other)):
        gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 1e-5 * gradient
    for name in ("autoencoder", "discriminator"):
        found, expected = getattr(task, name), getattr(reference, name)
        torch.testing.assert_close(found.state_dict(), expected.state_dict())
        assert not same(getattr(before, name).state_dict(), found.state_dict())


def test_before_gan_start_the_autoencoder_is_the_same_with_and_without_a_discriminator(fit):
    steps = [batch(step) for step in range(5)]
    with_, without = make(gan=1.0, gan_start=3), make(with_discriminator=False)
    untouched = weights_of(with_.discriminator)
    for number in range(5):
        gradients = [generator_gradients(task, data=steps[number])[0] for task in (with_, without)]
        assert same(*gradients) == (number < 3), number
        for task in (with_, without):
            fit(task, [steps[number]])
        alike = same(with_.autoencoder.state_dict(), without.autoencoder.state_dict())
        assert alike == (number < 3), number
    assert with_.step == without.step == 5
    assert not same(untouched, with_.discriminator.state_dict())


def test_the_discriminator_learns_from_disc_start_on(fit):
    task = make(gan=1.0, disc_start=2, gan_start=4)
    before = weights_of(task.discriminator)
    outputs = fit(task, [batch(step) for step in range(2)])
    assert same(before, task.discriminator.state_dict())
    assert all("d_loss" not in found for found in outputs)
    assert all(parameter.grad is None for parameter in task.discriminator.parameters())
    found = fit(task, [batch(2)])[0]
    assert not same(before, task.discriminator.state_dict())
    assert {"d_loss", "logits_real", "logits_fake", "discriminator_gradient_norm"} <= set(found)
    assert "d_weight" not in found  # the autoencoder does not feel it yet


def test_the_discriminator_learns_to_tell_the_two_apart(fit):
    task = make(gan=0.0, gan_start=10**6)
    task.trained["discriminator"].learning_rate = lambda step: 0.05
    outputs = fit(task, [batch(step) for step in range(40)])
    assert float(outputs[-1]["d_loss"]) < 0.9 * float(outputs[0]["d_loss"])
    assert float(outputs[-1]["logits_real"]) > float(outputs[-1]["logits_fake"])


def test_the_ramp_is_linear_in_steps_and_needs_no_state():
    task = make(gan=0.8, gan_start=10, gan_ramp_steps=4)
    found = {}
    for task.step in (9, 10, 11, 12, 14, 99):  # set, as after a resume
        found[task.step] = float(generator_gradients(task)[1].get("d_weight", 0.0))
    full = found[99]
    assert full > 0.0 and found[9] == found[10] == 0.0
    assert found[11] == pytest.approx(full / 4) and found[12] == pytest.approx(full / 2)
    assert found[14] == full


def test_the_adaptive_weight_is_clamped_by_the_configuration():
    free = float(generator_gradients(make(gan=0.5))[1]["d_weight"])
    tight = float(generator_gradients(make(gan=0.5, adaptive_limit=0.25))[1]["d_weight"])
    assert free > 1.0 and tight == 0.125
    assert not bool(generator_gradients(make(gan=0.5))[1]["d_weight_at_clamp"])
    assert bool(generator_gradients(make(gan=0.5, adaptive_limit=0.25))[1]["d_weight_at_clamp"])


def test_the_log_variance_is_learned_when_it_should_be(fit):
    learned, fixed = make(), make(learn_logvar=False)
    for task in (learned, fixed):
        fit(task, [batch(step) for step in range(3)])
    assert float(learned.likelihood.logvar.detach()) != 0.0
    assert float(fixed.likelihood.logvar.detach()) == 0.0
    assert "likelihood" in learned.trained and "likelihood" not in fixed.trained


def test_works_at_batch_one(fit):
    task = make(gan=1.0)
    outputs = fit(task, [batch(step, size=1) for step in range(3)])
    assert task.step == 3
    assert all(bool(value.isfinite()) for found in outputs for value in found.values())


def test_accumulation_equals_the_whole_batch_and_counts_its_own_steps(fit):
    """Also once the autoencoder feels the discriminator, and while that grows."""
    weights = {"gan": 1.0, "gan_start": 2, "gan_ramp_steps": 3, "kl": 0.1}
    whole, parts = make(double=True, **weights), make(double=True, **weights)
    double = torch.float64
    one = fit(whole, [batch(step, dtype=double) for step in range(6)])
    micro = [(s, start) for s in range(6) for start in (4 * s, 4 * s + 2)]
    other = fit(
        parts, [batch(s, size=2, start=start, dtype=double, micro_steps=2) for s, start in micro]
    )
    assert whole.step == parts.step == 6
    assert ["autoencoder_gradient_norm" in found for found in other] == [False, True] * 6
    assert other[-2] == {}  # until the last micro-batch has come, the weight is not known
    for name in ("autoencoder", "discriminator", "likelihood"):
        one_state, state = (getattr(task, name).state_dict() for task in (whole, parts))
        for key in state:  # losses are taken in float32, so 1e-9 rather than 1e-15
            torch.testing.assert_close(state[key], one_state[key], rtol=0.0, atol=1e-9)
    assert one[-1].keys() == other[-1].keys()
    for name, value in one[-1].items():
        torch.testing.assert_close(other[-1][name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_logged_numbers_do_not_depend_on_the_split():
    task = make(with_discriminator=False)
    whole = generator_gradients(task)[1]
    halves = [generator_gradients(task, data=batch(0, 2, start))[1] for start in (0, 2)]
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, msg=name)


def test_frozen_features_are_neither_trained_nor_saved():
    task = make(perceptual=1.0)
    assert not any("perceptual" in name for name, _ in task.named_parameters())
    trained = {id(p) for part in task.trained.values() for p in part.network.parameters()}
    assert trained == {id(p) for p in task.parameters()}


def test_validation_gives_sums_and_counts():
    task = make()
    found = validated(task, [batch(0), batch(1, size=3)])
    errors, penalties = [], []
    for data in (batch(0), batch(1, size=3)):
        code = task.autoencoder.encode(data.image)
        decoded = task.autoencoder.decode(code[:, :2]).clamp(-1, 1)
        errors += (data.image - decoded).square().flatten(1).mean(1).tolist()
        penalties += KL().penalty(code).tolist()
    assert float(found["psnr_count"]) == float(found["kl_per_dimension_count"]) == 7
    psnr = sum(10.0 * torch.log10(torch.tensor(4.0 / error)) for error in errors)
    assert float(found["psnr"]) == pytest.approx(float(psnr), rel=1e-5)
    assert float(found["kl_per_dimension"]) == pytest.approx(sum(penalties) / 128, rel=1e-5)


def test_the_codebook_learns_from_its_own_term_and_the_encoder_from_all(fit):
    """Beside a likelihood summed over an image, at the original's balance (its terms are means)."""
    task = make(codebook={})
    found, logs = generator_gradients(task)
    _, code = task.reconstruct(batch())
    penalty = task.autoencoder.regularizer.penalty(code).mean()
    original = logs["nll"] / (3 * 16 * 16) + penalty.detach()
    torch.testing.assert_close(logs["loss"], original * 3 * 16 * 16)
    (own,) = torch.autograd.grad(penalty, task.autoencoder.quantize.embedding.weight)
    torch.testing.assert_close(found["quantize.embedding.weight"], own * 3 * 16 * 16)
    assert float(found["encoder.conv_in.weight"].abs().max()) > 0.0
    assert "kl_per_dimension" not in logs and "posterior_sigma" not in logs
    (unweighted, _) = generator_gradients(make(codebook={"loss_weight": 0.0}))
    assert not bool(unweighted["quantize.embedding.weight"].any())


def test_an_autoencoder_learns_with_a_codebook(fit):
    task = make(codebook={"restart_rate": 0.5}, with_discriminator=False)
    task.trained["autoencoder"].learning_rate = lambda step: 2e-4
    outputs = fit(task, [batch(0)] * 60)
    assert float(outputs[-1]["loss"]) < 0.8 * float(outputs[0]["loss"])
    assert float(outputs[-1]["codebook_perplexity"]) > float(outputs[0]["codebook_perplexity"])
    for found in outputs:
        assert 0.0 < float(found["codebook_usage"]) <= 1.0


def test_the_codebook_is_the_same_however_a_batch_is_split(fit):
    settings = {"double": True, "codebook": {"restart_rate": 0.5}, "with_discriminator": False}
    whole, parts = make(**settings), make(**settings)
    double = torch.float64
    one = fit(whole, [batch(step, dtype=double) for step in range(3)])
    micro = [(s, start) for s in range(3) for start in (4 * s, 4 * s + 2)]
    other = fit(
        parts, [batch(s, size=2, start=start, dtype=double, micro_steps=2) for s, start in micro]
    )
    for key, value in whole.autoencoder.state_dict().items():
        torch.testing.assert_close(
            parts.autoencoder.state_dict()[key], value, rtol=0.0, atol=1e-9, msg=key
        )
    # Usage is that of the whole step, logged with its last micro-batch.
    assert ["codebook_usage" in found for found in other] == [False, True] * 3
    for name in ("codebook_usage", "codebook_perplexity"):
        assert [float(f[name]) for f in one] == [float(f[name]) for f in other[1::2]]


def test_the_average_follows_a_restarted_code_at_once(fit):
    task = make(codebook={"restart_rate": 1.0}, with_discriminator=False, ema_decay=0.999)
    before = task.autoencoder.quantize.embedding.weight.detach().clone()
    with torch.no_grad():
        counts = task.autoencoder.regularizer.counts(task.reconstruct(batch())[1])
    fit(task, [batch()])
    now = task.autoencoder.quantize.embedding.weight.detach()
    average = task.trained["autoencoder"].ema.shadow["quantize.embedding.weight"]
    dead = counts == 0
    assert 0 < int(dead.sum()) < 24
    assert torch.equal(average[dead], now[dead])
    assert float((now - before)[dead].norm(dim=1).min()) > 0.05
    assert not torch.equal(average[~dead], now[~dead])


def test_validation_counts_codes_over_all_pictures():
    task = make(codebook={})
    found = validated(task, [batch(0), batch(1, size=3)])
    regularizer = task.autoencoder.regularizer
    codes = [task.autoencoder.encode(data.image) for data in (batch(0), batch(1, size=3))]
    counts = sum(regularizer.counts(code) for code in codes)
    assert torch.equal(found["codes"], counts)
    share = counts / counts.sum()
    said = task.conclude(found)
    assert float(said["codebook_usage"]) == pytest.approx(float((counts > 0).float().mean()))
    expected = float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum()))
    assert float(said["codebook_perplexity"]) == pytest.approx(expected, rel=1e-5)
    errors = sum(float(regularizer.measures(code)["quantization_error"].sum()) for code in codes)
    assert float(said["quantization_error"]) == pytest.approx(errors / 7, rel=1e-5)
    new = {"psnr", "quantization_error", "codebook_usage", "codebook_perplexity"}
    assert new <= said.keys() and "codes" not in said


def test_a_paused_gan_is_felt_by_the_discriminator_alone(fit):
    paused, without = make(gan=1.0), make(with_discriminator=False)
    paused.gan_paused = True
    before = weights_of(paused.discriminator)
    (found,) = fit(paused, [batch()])
    fit(without, [batch()])
    assert same(paused.autoencoder.state_dict(), without.autoencoder.state_dict())
    assert not same(before, paused.discriminator.state_dict()) and "d_weight" not in found


def test_a_paused_discriminator_is_felt_and_does_not_learn(fit):
    paused, plain = make(gan=1.0), make(gan=1.0)
    paused.discriminator_paused = True
    before = weights_of(paused.discriminator)
    (found,) = fit(paused, [batch()])
    fit(plain, [batch()])
    assert same(paused.autoencoder.state_dict(), plain.autoencoder.state_dict())
    assert same(before, paused.discriminator.state_dict())
    assert {"d_weight", "d_loss"} <= found.keys()


class Constant(torch.autograd.Function):
    """Adds a number to a loss that its gradient does not know of."""

    @staticmethod
    def forward(context, loss, number):
        return loss + number

    @staticmethod
    def backward(context, gradient):
        return gradient, None


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_skips_all_networks_though_its_gradient_is(
    fit, monkeypatch, number
):
    task = make(gan=1.0, ema_decay=0.9)
    fit(task, [batch(0)])
    before = {name: weights_of(part.network) for name, part in task.trained.items()}
    whole = task.generator_loss

    def generator_loss(*arguments):
        loss, logs = whole(*arguments)
        return Constant.apply(loss, number), logs

    monkeypatch.setattr(task, "generator_loss", generator_loss)
    (found,) = fit(task, [batch(1)])
    assert not found["discriminator_gradient_norm"].isfinite()
    assert task.step == 2  # the counter goes on
    for name, part in task.trained.items():
        assert same(before[name], part.network.state_dict()), name
        assert part.skips().tolist() == [1.0, 1.0, 1.0]
    monkeypatch.undo()
    fit(task, [batch(2)])
    assert not same(before["discriminator"], task.discriminator.state_dict())
