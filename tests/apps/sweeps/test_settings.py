"""The sweep's own words: taken from those of the jobs, and checked like any other."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.sweeps.settings import read_settings, require_no_sweep


def test_a_sweep_takes_its_own_words_and_leaves_the_others():
    words = ["sweep=tpe", "sweep.trials=3", "lr=1,2", "launcher=slurm", "launcher.partition=gpu"]
    config, others = read_settings("train", [*words, "sweep_dir=a,b"[:11]], config_dir=None)
    assert others == ["lr=1,2"]
    assert config.sweep.method == "tpe" and config.sweep.trials == 3
    assert config.launcher.partition == "gpu" and config.sweep_dir == "a"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep=tpe", "sweep.trails=3"], "'sweep.trails'.*sweep.trials"),
        (["sweep=tpee"], "sweep=tpee.*'tpe'"),
        (["sweep=tpe", "sweep.trials=many"], "whole number of at least 1"),
        (["sweep=tpe", "sweep.direction=up"], "minimize"),
        (["sweep.trials=3"], "'sweep.trials' is not a setting of this sweep"),  # of a grid
        (["launcher=slum"], "'slurm'"),
        (["launcher.paralel=2"], "'launcher.parallel'"),
        (["sweepdir=x"], "Did you mean 'sweep_dir'"),
        (["lancher=slurm"], "Did you mean 'launcher'"),
        (["swep.trials=3"], "Did you mean 'sweep.trials'"),
        (["trials=3"], "Did you mean 'sweep.trials'"),
        (["paralel=3"], "Did you mean 'launcher.parallel'"),
        (["sweep=tpe,random"], "one value for the whole sweep"),
        (["launcher=slurm", "launcher.time=soon"], "HH:MM:SS"),
    ],
)
def test_mistakes_are_said_with_what_was_meant(words, said):
    with pytest.raises(UserError, match=said):
        read_settings("train", words, config_dir=None)


def test_own_words_without_a_sweep_are_refused(ldm, capsys):
    assert ldm("train", "experiment=demo_diffusion", "sweep=tpe") == 2
    assert "Add -m, as in `ldm train -m ...`" in capsys.readouterr().err
    with pytest.raises(UserError, match="sweep_dir=x"):
        require_no_sweep("train", ["sweep_dir=x"])
