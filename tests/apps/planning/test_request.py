"""The words of `ldm plan`: whose settings they are, and what is wrong with them."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.planning.request import request_of


def asked(*words):
    return request_of(words, config_dir=None)


def test_words_are_shared_out_between_the_command_and_the_trainings():
    found = asked("train", "experiment=sd1_256", "gpus=1,8,64", "mfu=0.3", "seed=7")
    assert list(found.settings.gpus) == [1, 8, 64] and found.mfu_of(0) == 0.3
    (training,) = found.trainings
    assert training.config.seed == 7 and training.experiment == "sd1_256"
    assert training.title == "sd1_256: 256 px, 237,000 steps"


def test_phases_are_trainings_of_their_sizes_and_steps():
    found = asked("experiment=sd1_256", "phases=256:237000,512:934000", "mfu=0.238,0.28")
    sizes = [(t.config.size, t.config.max_steps) for t in found.trainings]
    assert sizes == [(256, 237_000), (512, 934_000)]
    assert [found.mfu_of(i) for i in range(2)] == [0.238, 0.28]


def test_several_experiments_follow_each_other():
    found = asked("experiment=demo_text_encoder,demo_autoencoder,demo_diffusion")
    stages = [training.config.stage for training in found.trainings]
    assert stages == ["text_encoder", "autoencoder", "diffusion"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gpsu=8", "'gpsu' is a setting of neither.*'gpus'"),
        ("prise_per_gpu_hour=2", "'price_per_gpu_hour'"),
        ("max_step=3", "'max_steps'"),
        ("backbone.chanels=[64]", "chanels"),
        ("gpus=0", "gpus=.* does not fit"),
        ("gpus=many", "gpus=.* does not fit"),
        ("mfu=1.5", "mfu=1.5 does not fit"),
        ("measure=yess", "measure='yess' does not fit"),
        ("phases=[256]", "SIZE:STEPS"),
        ("phases=[256:many]", "SIZE:STEPS"),
        ("price_per_gpu_hour=-1", "price_per_gpu_hour=-1 does not fit"),
        ("experiment=sd1_265", "sd1_256"),
    ],
)
def test_what_is_mistyped_is_said(word, said):
    words = [word] if word.startswith("experiment") else ["experiment=sd1_256", word]
    with pytest.raises(UserError, match=said):
        asked(*words)


def test_a_group_of_ones_own_is_known(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.yaml").write_text("# @package _global_\nseed: 5\n")
    words = ["experiment=demo_diffusion", "+mine=one"]
    (training,) = request_of(words, config_dir=str(tmp_path)).trainings
    assert training.config.seed == 5
