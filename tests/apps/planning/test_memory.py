"""The estimate of memory: by hand where that can be, and against the allocator of real steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.apps.compose import compose
from ldm.apps.planning.activations import kept
from ldm.apps.planning.companions import companions
from ldm.apps.planning.estimate import estimate
from ldm.apps.planning.made_up import made_up
from ldm.apps.planning.memory import Cutting, Holdings, largest_micro_batch, memory_of
from ldm.apps.planning.parts import BATCH, Pass


def test_two_layers_keep_their_inputs():
    first, second = (nn.Linear(8, 8, device="meta") for _ in range(2))
    x = torch.zeros(BATCH, 8, device="meta")
    network = nn.Sequential(first, nn.SiLU(), second)
    found = kept(Pass("", network, lambda: network(x)), None)
    assert found.per_picture == 4 * (8 + 8 + 8)  # x, what SiLU takes, what it gives
    half = kept(Pass("", network, lambda: network(x)), torch.bfloat16)
    assert half.per_picture == 2 * (8 + 8 + 8) and half.casts == 2 * 2 * (8 * 8 + 8)


def test_attention_keeps_no_matrix_of_pairs():
    q = torch.zeros(BATCH, 2, 1024, 16, device="meta", requires_grad=True)
    attend = F.scaled_dot_product_attention
    found = kept(Pass("", nn.Identity(), lambda: attend(q, q * 1, q * 1)), None)
    each = 2 * 1024 * 16 * 4
    assert found.per_picture == pytest.approx(4 * each + 2 * 1024 * 4)


def held(**more):
    trained = {"weights": 4e9, "gradients": 4e9, "optimizer": 8e9, "average": 4e9}
    from ldm.apps.planning.activations import Kept

    known = {"others": {"text_encoder": 1e9}, "kept": Kept(2e9, 2e9, 5e8), "recomputes": False,
             "on_gpu": True, "block": 1e8}  # fmt: skip
    return Holdings(trained, **(known | more))


def test_the_parts_add_up_and_fsdp_cuts_what_is_trained():
    whole = memory_of(held(), Cutting(4, accumulates=False))
    assert whole["activations"] == 8e9 and whole["weights"] == 4e9
    assert whole["reserve"] == pytest.approx(1e9 + 0.05 * (20e9 + 1e9 + 2e9 + 8e9))
    cut = memory_of(held(), Cutting(4, accumulates=True, parts=8))
    assert cut["weights"] == 5e8 and cut["optimizer"] == 1e9
    assert cut["gradients"] == 4e9  # whole, while they add up
    assert memory_of(held(), Cutting(4, accumulates=False, parts=8))["gradients"] == 5e8
    assert memory_of(held(recomputes=True), Cutting(4, False))["activations"] == 2e9
    assert "reserve" not in memory_of(held(on_gpu=False), Cutting(4, False))


def test_the_largest_micro_batch_divides_and_fits():
    assert largest_micro_batch(held(), Cutting(64, False), 48, 45e9) == 8
    assert largest_micro_batch(held(), Cutting(6, False), 48, 45e9) == 6
    assert largest_micro_batch(held(), Cutting(64, False), 48, 20e9) == 0


def peak_of_a_step(task, batch):
    """Bytes at the peak of a real step, above what was there before, as the allocator counts."""
    from torch.profiler import ProfilerActivity, profile

    part = task.trained[task.product]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        task.sample_losses(batch).mean().backward()
    moved = [
        event.nbytes()
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    now = peak = 0
    for amount in moved:
        now += amount
        peak = max(peak, now)
    assert part.network is not None
    return peak


@pytest.mark.parametrize(
    ("name", "more", "images"),
    [
        ("demo_diffusion", [], 64),
        ("demo_diffusion", ["activation_checkpointing=true"], 64),
        ("demo_autoencoder", ["perceptual=none", "discriminator=none"], 32),
        pytest.param(
            "imagenet_256",
            ["backbone.channels=[64,128,256]", "backbone.heads=[2,4,8]", "accelerator=cpu",
             "devices=1", "precision=32-true"],
            2,
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_real_steps_take_what_was_said(name, more, images):
    torch.manual_seed(0)
    words = [f"experiment={name}", "data.root=DATA", f"global_batch={images}", *more]
    config = compose("train", words)
    found = companions(config, autoencoder=None, text_encoder=None, experiment=name)
    said = estimate(config, experiment=name).memory
    task, batch = made_up(config, found, images)
    measured = peak_of_a_step(task, batch(0))
    # Gradients grow while activations go, which reach their peak in between.
    ratio = max(said["activations"], said["gradients"]) / measured
    print(f"{name}: estimated {ratio:.2f} of the {measured / 1e6:.0f} MB measured")
    assert 0.9 < ratio < 1.1
