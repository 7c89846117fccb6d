"""Sweeps: a grid of processes with readable directories; what is finished is skipped."""

import sys

import pytest

from ldm.apps.errors import UserError
from ldm.apps.sweep import LONGEST, directory_name, sweep
from ldm.manifest import read_manifest


@pytest.fixture
def in_process(monkeypatch, ldm):
    """Jobs run in this process: starting one takes seconds."""

    def run(words):
        assert words[:3] == [sys.executable, "-m", "ldm.apps.main"]
        return ldm(*words[3:])

    monkeypatch.setattr("ldm.apps.sweep.run_child", run)


def test_a_grid_makes_readable_directories_and_goes_on(world, ldm, tmp_path, capfd, in_process):
    root = tmp_path / "grid"
    words = world.train("text_encoder", tmp_path, "max_steps=1", f"sweep_dir={root}")
    words = [w for w in words if not w.startswith("run=")]
    command = ["train", "-m", *words[1:], "seed=1,2", "max_gradient_norm=1.0"]
    assert ldm(*command) == 0
    assert sorted(p.name for p in root.iterdir()) == ["seed=1", "seed=2"]
    assert read_manifest(root / "seed=2").settings["seed"] == 2
    assert "2 of 2 jobs finished" in capfd.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    assert ldm(*command) == 0
    assert capfd.readouterr().out.count("is finished (step 1)") == 2
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_each_job_is_a_process_of_its_own(world, ldm, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = world.train("text_encoder", tmp_path, "max_steps=1", f"sweep_dir={tmp_path / 'a=b'}")
    words = [w for w in words if not w.startswith("run=")]
    assert ldm("train", "-m", *words[1:], "seed=1,2") == 0
    for seed in (1, 2):
        assert read_manifest(tmp_path / "a=b" / f"seed={seed}").settings["seed"] == seed


def test_all_mistakes_are_found_before_the_first_job(world, ldm, tmp_path, capsys):
    words = world.train("text_encoder", tmp_path, f"sweep_dir={tmp_path / 'grid'}")
    words = [w for w in words if not w.startswith("run=")]
    assert ldm("train", "-m", *words[1:], "lr=1e-3,fast") == 2
    assert "lr='fast' does not fit" in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()
    assert ldm("train", "-m", *words[1:]) == 2
    assert "several values" in capsys.readouterr().err
    assert ldm("sample", "-m", "model=x", "seed=1,2") == 2
    assert "not `ldm sample`" in capsys.readouterr().err


def test_a_failing_job_does_not_stop_the_others(world, ldm, tmp_path, capfd, in_process):
    words = world.train("text_encoder", tmp_path, "max_steps=1", f"sweep_dir={tmp_path / 'grid'}")
    words = [w for w in words if not w.startswith("run=")]
    blocked = tmp_path / "grid" / "seed=1"
    blocked.mkdir(parents=True)
    (blocked / "a file of the user").touch()
    assert ldm("train", "-m", *words[1:], "seed=1,2") == 1
    captured = capfd.readouterr()
    assert "failed: seed=1" in captured.err and "1 of 2 jobs finished" in captured.out
    assert (tmp_path / "grid" / "seed=2" / "model").is_dir()


def test_a_sweep_inside_a_multi_process_job_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started once, not by torchrun"):
        sweep(["seed=1,2"], config_dir=None)


def test_directory_names_are_readable_safe_and_unique():
    assert directory_name(["lr=0.001", "backbone=unet_demo"]) == "lr=0.001,backbone=unet_demo"
    assert "/" not in directory_name(["init=/a/b c"])
    long = [[f"preview.prompts=[{'x' * 200}{i}]"] for i in range(2)]
    names = {directory_name(choice) for choice in long}
    assert len(names) == 2 and all(len(name) < LONGEST + 20 for name in names)
