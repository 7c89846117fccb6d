"""Data stands in where none is named, and nowhere else."""

import pytest

from ldm.apps.check import check
from ldm.apps.planning.request import request_of
from ldm.apps.stand_ins import with_data


@pytest.fixture
def config_dir(tmp_path):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "# @package _global_\ndefaults: [demo_diffusion]\ndata: {root: /nowhere/mine}\n"
    )
    return str(tmp_path)


def test_data_that_an_experiment_names_is_the_data(config_dir, capsys):
    assert with_data(["experiment=mine"], config_dir=config_dir) == ["experiment=mine"]
    assert check("train", ["experiment=mine"], config_dir=config_dir) == 0
    assert "data.root=/nowhere/mine holds no latent cache" in capsys.readouterr().out
    (training,) = request_of(["experiment=mine"], config_dir=config_dir).trainings
    assert training.config.data.root == "/nowhere/mine"


def test_where_none_is_named_some_stands_in(config_dir):
    shipped = ["experiment=demo_diffusion"]
    assert with_data(shipped, config_dir=config_dir) == [*shipped, "data.root=DATA"]
    typed = [*shipped, "data.root=/else"]
    assert with_data(typed, config_dir=config_dir) == typed
