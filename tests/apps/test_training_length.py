"""How long a run is: by steps or by images, and the same on any number of devices."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldm.apps.announcement import effective, in_one_line
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.shares import shares_of
from ldm.apps.training_length import steps_for

WORDS = ["experiment=demo_diffusion", "data.root=DATA", "global_batch=48"]


@given(images=st.integers(1, 10**12), global_batch=st.integers(1, 10**5))
def test_steps_are_the_fewest_that_see_so_many_images(images, global_batch):
    steps = steps_for(images, global_batch)
    assert (steps - 1) * global_batch < images <= steps * global_batch


def test_images_in_place_of_steps_reach_all_that_refers_to_steps():
    config = compose("train", [*WORDS, "max_images=100000"])  # the experiment says max_steps
    assert config.max_steps == config.learning_rate.max_steps == 2084
    assert config.max_images == 100000 and 2083 * 48 < 100000 <= 2084 * 48


def test_the_one_that_was_typed_decides(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - demo_diffusion\nmax_steps: null\nmax_images: 960\n"
    )
    words = ["experiment=mine", *WORDS[1:]]
    assert compose("train", words, config_dir=str(tmp_path)).max_steps == 20
    config = compose("train", [*words, "max_steps=7"], config_dir=str(tmp_path))
    assert (config.max_steps, config.max_images) == (7, None)
    assert compose("train", [*words, "max_images=48"], config_dir=str(tmp_path)).max_steps == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["max_steps=5", "max_images=5"], "are both typed"),
        (["max_steps=null"], "of at least 1 where no max_images=N says"),
        (["max_images=0"], "max_images=0 does not fit: it must be a whole number"),
        (["max_images=many"], "max_images='many' does not fit"),
    ],
)
def test_what_does_not_say_how_long_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        compose("train", [*WORDS, *words])


def test_both_in_a_configuration_are_refused(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "both.yaml").write_text(
        "# @package _global_\ndefaults:\n  - demo_diffusion\nmax_images: 960\n"
    )
    with pytest.raises(UserError, match="are both in the configuration"):
        compose("train", ["experiment=both", *WORDS[1:]], config_dir=str(tmp_path))


def test_effective_values_are_those_of_one_gpu_on_64():
    """Steps, images, batch, rates and what is interpolated from them know no devices."""
    wanted = None
    for devices, nodes, micro in itertools.product((1, 2, 8), (1, 3), ("null", 1, 2)):
        where = [f"devices={devices}", f"num_nodes={nodes}", f"micro_batch={micro}"]
        config = compose("train", [*WORDS, "max_images=9999", *where])
        found = effective(config) | {"learning_rate": dict(config.learning_rate)}
        wanted = wanted or found
        assert found == wanted, where
        (share,) = shares_of(config, [(32, 32)])
        assert share.world_size * share.micro_batch * share.accumulate == 48
    assert wanted["max_steps"] == 209 and wanted["images"] == 209 * 48
    assert wanted["learning_rate"]["warmup_steps"] == wanted["warmup_steps"]


def test_one_line_says_what_counts():
    words = [*WORDS, "max_images=9999", "devices=2", "micro_batch=8", "lr=2e-3", "warmup_steps=5"]
    config = compose("train", words)
    said = in_one_line(config, "denoiser", 1234567, shares_of(config, [(32, 32)]), 3)
    assert "\n" not in said
    for words in (
        "209 steps = 10,032 images (max_images=9999, rounded up to whole steps)",
        "global batch 48 = 2 process(es) x 8 x 3 accumulated",
        "lr 0.002 (cosine, 5 steps of warm-up)", "32-true", "EMA 0.99", "seed 0",
        "1,234,567 parameters", "going on at step 3",
    ):  # fmt: skip
        assert words in said, said
