"""The arithmetic of steps: by hand, and against published rates."""

import pytest

from ldm.apps.planning.gpus import GPUS
from ldm.apps.planning.scaling import (
    BACKWARD_SHARE,
    OVERLAP,
    TAIL,
    Cut,
    Links,
    Work,
    communication_seconds,
    exposed_seconds,
    fixed_seconds,
    image_seconds,
    shards,
    step_seconds,
)

SD1 = Work(860_000_000, averaged=True, casts=True)
H200 = Links(memory=4.3e12, link=450e9, network=50e9)


def test_fixed_work_of_stable_diffusion_on_an_h200():
    """AdamW 24 GB, the average 10.3 GB, and 5.2 GB of casts per micro-batch, at 4.3 TB/s."""
    assert fixed_seconds(SD1, H200, Cut(1, 64)) == pytest.approx(5.6e-3 + 2.4e-3 + 1.2e-3, rel=0.01)
    accumulated = fixed_seconds(SD1, H200, Cut(1, 64, 4))
    assert accumulated == pytest.approx(5.6e-3 + 2.4e-3 + 4 * 1.2e-3, rel=0.01)


def test_the_ring_of_eight_moves_6_gigabytes_in_13_milliseconds():
    assert communication_seconds(SD1, H200, Cut(8, 64)) == pytest.approx(13e-3, rel=0.05)
    assert communication_seconds(SD1, H200, Cut(1, 64)) == 0.0


def test_between_machines_each_gpu_moves_its_part():
    inside = communication_seconds(SD1, H200, Cut(8, 64))
    across = communication_seconds(SD1, H200, Cut(16, 64)) - inside
    assert across == pytest.approx(2 * 1 / 2 * 3.44e9 / 8 / 50e9)


def test_weights_that_are_shared_out_are_gathered_for_every_micro_batch():
    sharded = Work(860_000_000, averaged=True, casts=True, sharded=True)
    one, four = (communication_seconds(sharded, H200, Cut(8, 64, n)) for n in (1, 4))
    assert one == pytest.approx(3 * 7 / 8 * 3.44e9 / 450e9)
    assert four == pytest.approx(9 * 7 / 8 * 3.44e9 / 450e9)


def test_machines_of_one_gpu_cut_weights_among_each_other():
    alone, sharded = Links(4.3e12, 450e9, 50e9, 1), Work(860_000_000, True, True, sharded=True)
    assert [shards(8, 8), shards(16, 8), shards(8, 1), shards(1, 1)] == [8, 8, 8, 1]
    whole = communication_seconds(sharded, alone, Cut(8, 64))
    assert whole == pytest.approx(3 * 7 / 8 * 3.44e9 / 50e9)  # all of it between machines


def test_communication_hides_behind_the_backward_pass_but_for_its_tail():
    cut, whole = Cut(64, 16), communication_seconds(SD1, H200, Cut(64, 16))
    assert exposed_seconds(SD1, H200, cut, 10.0) == pytest.approx(TAIL * whole)
    short = 1e-4
    left = whole - OVERLAP * BACKWARD_SHARE * 16 * short
    assert exposed_seconds(SD1, H200, cut, short) == pytest.approx(left)


@pytest.mark.parametrize("cut", [Cut(1, 256, 16), Cut(8, 64), Cut(128, 16), Cut(1024, 2)])
def test_the_time_of_an_image_and_of_a_step_are_each_others_inverse(cut):
    for each in (1e-5, 1e-3, 1e-1):
        seconds = step_seconds(SD1, H200, cut, each)
        assert image_seconds(SD1, H200, cut, seconds) == pytest.approx(each, rel=1e-6)


def test_no_micro_batch_is_faster_than_its_launches():
    work = Work(860_000_000, averaged=True, casts=True, tensors=686)
    one, two = (step_seconds(work, H200, Cut(1, images), 1e-4) for images in (1, 2))
    assert one == two == pytest.approx(25e-3 + 9.2e-3, rel=0.02)
    assert step_seconds(work, H200, Cut(1, 1000), 1e-3) > 1.0


def test_a_step_too_short_for_its_optimizer_is_refused():
    with pytest.raises(ValueError, match="shorter than what optimizer, launching"):
        image_seconds(SD1, H200, Cut(8, 1), 1e-3)


@pytest.mark.parametrize(
    ("size_px", "at_8", "gpus", "published"),
    # MosaicML diffusion's README: A100s, global batch 2048, micro-batch 16, images/s per GPU.
    [(256, 137.5, 64, 133.0), (512, 36.2, 128, 35.9)],
)
def test_strong_scaling_from_8_gpus_meets_what_was_published_for_many(
    size_px, at_8, gpus, published
):
    gpu = GPUS["a100_80gb"]
    links = Links(gpu.bandwidth, gpu.link, gpu.network)
    work = Work(865_910_724, averaged=False, casts=True)
    each = image_seconds(work, links, Cut(8, 256, 16), 256 / at_8)
    images = 2048 // gpus
    per_gpu = images / step_seconds(work, links, Cut(gpus, images, images // 16), each)
    assert per_gpu == pytest.approx(published, rel=0.15)
