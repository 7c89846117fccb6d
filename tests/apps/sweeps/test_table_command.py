"""`ldm sweep table DIR`: while a sweep runs, and mistakes."""

import csv
import json

import pytest
from omegaconf import OmegaConf

from ldm.manifest import read_json, write_json


@pytest.fixture
def running(tmp_path):
    """A sweep of three runs: one finished, one at its second step, one waiting."""
    root = tmp_path / "sweep"
    jobs = [
        {"directory": f"lr={lr}", "settings": [["lr", lr]], "state": state, "seconds": 1.5}
        for lr, state in (("0.1", "finished"), ("0.2", "finished"), ("0.3", "running"),
                          ("0.4", "waiting"))
    ]  # fmt: skip
    write_json(root / "sweep.json", {"command": "train", "jobs": jobs, "finished": {}})
    for lr, value, step in (("0.1", 0.5, 10), ("0.2", 0.4, 10), ("0.3", 0.3, 2)):
        run = root / f"lr={lr}"
        run.mkdir()
        rows = [{"step": 1, "val/loss": 1.0}, {"step": step, "val/loss": value, "lr_": 1.0}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = OmegaConf.create({"stage": "diffusion", "size": 32, "ema_decay": 0.9})
        (run / "config.yaml").write_text(OmegaConf.to_yaml(settings))
        write_json(run / "inputs.json", {"latents": {"path": "x", "fingerprint": "f"}})
    return root


def test_a_running_sweep_has_its_table(running, ldm, capsys):
    assert ldm("sweep", "table", running) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["lr", "state", "step", "seconds", "val/loss"]
    assert lines[1].split() == ["0.1", "finished", "10", "1.5", "0.5"]
    assert lines[2].split() == ["0.2", "finished", "10", "1.5", "0.4*"]
    assert lines[3].split() == ["0.3", "stopped", "2", "1.5", "0.3"]  # nobody is at work
    assert lines[4].split() == ["0.4", "waiting", "0", "1.5", "-"]
    rows = list(csv.DictReader((running / "table.csv").read_text().splitlines()))
    assert rows[1]["val/loss"] == "0.4" and rows[1]["lr_"] == "1.0"
    page = (running / "index.html").read_text()
    assert "Training over lr" in page and "<b>2</b> of 4 jobs finished" in page
    assert "Across lr" in page


def test_jobs_of_a_cluster_stand_as_they_left_it(running, ldm, capsys):
    state = read_json(running / "sweep.json")
    for job in state["jobs"]:
        job["state"] = "running"
    write_json(running / "sweep.json", state | {"launcher": "slurm"})
    (running / "lr=0.1" / "job.exit").write_text("0\n")
    (running / "lr=0.2" / "job.exit").write_text("1\n")
    (running / "lr=0.3" / "job.json").write_text('{"job": "7"}')

    def states():
        assert ldm("sweep", "table", running) == 0
        return [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:5]]

    assert states() == ["finished", "failed", "running", "waiting"]  # the last was never submitted
    (running / "lr=0.3" / "job.exit").write_text("130\n")
    assert states()[2] == "stopped"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Type `ldm sweep table DIR`"),
        (["tabel", "x"], "Did you mean 'table'"),
        (["table"], "takes one directory"),
        (["table", "nowhere"], "nowhere does not exist"),
        (["table", "."], "is no sweep (sweep.json is missing)"),
    ],
)
def test_mistakes_get_a_sentence(words, said, ldm, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ldm("sweep", *words) == 2
    assert said in capsys.readouterr().err
