"""`ldm evaluate -m`: every combination is evaluated once, and one table holds all numbers."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from ldm.apps.build import device_of
from ldm.apps.compose import compose
from ldm.apps.exit_codes import INTERRUPTED
from ldm.apps.report.sweep_rows import read_sweep
from ldm.apps.sweeps.evaluating import Evaluating
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.ledger import Ledger
from ldm.manifest import read_json
from ldm.metrics.protocol import record


class Evaluated:
    """Stands for the processes: each job leaves the numbers that follow from its settings."""

    def __init__(self):
        self.started: list[dict[str, str]] = []
        self.codes: dict[str, int] = {}  # by guidance

    def __call__(self, job):
        given = dict(word.split("=", 1) for word in job.arguments)
        self.started.append(given)
        if code := self.codes.get(given["guidance"]):
            print("ldm: it went wrong")
            return code
        guidance, steps = float(given["guidance"]), int(given["steps"])
        protocol = {"guidance": guidance, "steps": steps, "n": 256}
        numbers = {
            "FID-256": 30 + (guidance - 3) ** 2 - steps / 10,
            "clip_score": 0.2 + guidance / 100,
            "clip_score.real": 0.3,
        }
        made = {k: record(v, **protocol) for k, v in numbers.items()}
        Path(given["out"]).write_text(json.dumps(made))
        return 0


@pytest.fixture
def evaluated(jobs, monkeypatch):
    run = Evaluated()
    jobs(run)
    monkeypatch.setattr("ldm.apps.evaluate.asked", lambda config: None)  # weights are here
    return run


@pytest.fixture
def command(world, tmp_path):
    return [
        "evaluate", "-m", f"model={world.root}", f"data.root={world.shards}", "metrics=[fid]",
        "negative=blurry, dull", "steps=10,20", "guidance=1,2,4", f"out={tmp_path / 'sweep'}",
    ]  # fmt: skip


def test_all_combinations_share_their_notes_and_end_in_one_table(ldm, command, evaluated, tmp_path):
    assert ldm(*command) == 0
    root = tmp_path / "sweep"
    assert [(job["guidance"], job["steps"]) for job in evaluated.started] == [
        ("1", "10"), ("2", "10"), ("4", "10"), ("1", "20"), ("2", "20"), ("4", "20"),
    ]  # fmt: skip
    assert {job["notes"] for job in evaluated.started} == {str(root / "notes")}
    assert evaluated.started[0]["out"] == str(root / "steps=10,guidance=1" / "metrics.json")
    assert evaluated.started[0]["negative"] == "blurry, dull"  # one text, however many commas
    rows = list(csv.DictReader((root / "table.csv").read_text().splitlines()))
    assert len(rows) == 6 and list(rows[0]) == [
        "steps", "guidance", "state", "seconds", "FID-256", "clip_score", "clip_score.real",
    ]  # fmt: skip
    assert float(rows[4]["FID-256"]) == 29.0
    table = (root / "table.md").read_text()
    assert re.search(r"\| 20 \| 4 \| finished \| [\d.]+ \| \*\*29\*\* \| \*\*0.24\*\* \|", table)
    assert re.search(r"\| 20 \| 2 \| finished \| [\d.]+ \| \*\*29\*\* \| 0.22 \|", table)
    assert "clip_score.real" not in table  # part of another, which is in the CSV
    assert "not joined" not in table
    assert (root / "index.html").is_file()


def test_finished_jobs_are_not_started_again(ldm, command, evaluated, tmp_path, capsys):
    evaluated.codes["4"] = INTERRUPTED
    assert ldm(*command) == INTERRUPTED
    evaluated.codes.clear()
    evaluated.started.clear()
    assert ldm(*command) == 0
    assert [job["guidance"] for job in evaluated.started] == ["4", "1", "2", "4"]
    assert capsys.readouterr().out.count("finished already") == 2
    evaluated.started.clear()
    more = [word.replace("guidance=1,2,4", "guidance=1,8") for word in command]
    assert ldm(*more) == 0  # another grid in the same folder
    assert [job["guidance"] for job in evaluated.started] == ["8", "8"]
    evaluated.started.clear()
    assert ldm(*more, "seed=7") == 2 and not evaluated.started
    assert "other settings (seed: not given -> 7)" in capsys.readouterr().err
    swapped = [w for w in more if not w.startswith("steps=")]
    assert ldm(*swapped, "steps=20,10") == 0 and not evaluated.started  # in another order
    assert ldm(*(w for w in more if not w.startswith("steps=")), "steps=10") == 2
    assert "a grid of `ldm evaluate` over steps, guidance" in capsys.readouterr().err


def test_an_evaluation_that_finished_without_its_sweep_is_not_made_again(
    ldm, command, evaluated, tmp_path, monkeypatch
):
    root, words = tmp_path / "sweep", [w for w in command if not w.startswith("steps")]
    words = [w.replace("guidance=1,2,4", "guidance=1,2") for w in words] + ["steps=10"]
    evaluated.codes["2"] = INTERRUPTED  # as if the sweep had been killed with this job at work
    assert ldm(*words) == INTERRUPTED
    evaluated.codes.clear()
    (root / "guidance=2").mkdir(exist_ok=True)
    shutil.copy(root / "guidance=1" / "metrics.json", root / "guidance=2")
    evaluated.started.clear()
    assert ldm(*words) == 0 and not evaluated.started
    begun = read_json(root / "sweep.json")["begun"]
    assert begun == {}


def test_numbers_of_the_model_before_are_not_taken_for_those_of_now(
    ldm, command, evaluated, tmp_path, monkeypatch
):
    """A job of a cluster that an earlier command left began with what its model was then."""
    words = [w.replace("=1,2,4", "=1,2") for w in command if not w.startswith("steps")]
    words.append("steps=10")
    now = ["first"]
    monkeypatch.setattr(Evaluating, "_key", lambda kind, job: now[0])
    evaluated.codes["1"] = INTERRUPTED
    assert ldm(*words) == INTERRUPTED
    evaluated.codes.clear()
    now[0] = "second"
    with monkeypatch.context() as of_cluster:
        of_cluster.setattr("tests.in_process.InProcess.has", lambda launcher, job: True)
        assert ldm(*words) == 0
    finished = read_json(tmp_path / "sweep" / "sweep.json")["finished"]
    assert finished == {"guidance=1": "first", "guidance=2": "second"}
    evaluated.started.clear()
    assert ldm(*words) == ldm(*words) == 0
    assert [given["guidance"] for given in evaluated.started] == ["1"]


def test_what_runs_on_a_cluster_needs_no_gpu_here(world, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("ldm.apps.evaluate.asked", lambda config: device_of(config.accelerator))
    words = [f"model={world.root}", "metrics=[fid]", "accelerator=gpu", "out=x/metrics.json"]
    job = Job(1, ("steps=1",), tmp_path / "steps=1", tuple(words), compose("evaluate", words))
    kind = Evaluating(tmp_path, Ledger(tmp_path, {"command": "evaluate"}, ["steps"]))
    kind.require_sound(job, here=False)
    with pytest.raises(ValueError, match="steps=1: accelerator=gpu, but torch finds no GPU"):
        kind.require_sound(job, here=True)


def test_a_home_directory_is_one_place(ldm, command, evaluated, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    words = [w for w in command if not w.startswith(("out=", "guidance="))]
    assert ldm(*words, "guidance=1", "out=~/s") == 0
    assert (tmp_path / "home" / "s" / "table.md").is_file() and not (tmp_path / "~").exists()
    assert evaluated.started[0]["out"].startswith(str(tmp_path / "home"))


def test_another_model_in_the_same_place_is_evaluated_anew(ldm, evaluated, world, tmp_path):
    model = tmp_path / "model"
    for part in ("unet", "vae"):
        (model / part).mkdir(parents=True)
        (model / part / "config.json").write_text("{}")
    words = ["evaluate", "-m", f"model={model}", f"data.root={world.shards}", "metrics=[fid]"]
    words += ["guidance=1,2", "steps=10", f"out={tmp_path / 'sweep'}"]
    assert ldm(*words) == ldm(*words) == 0
    assert len(evaluated.started) == 2
    (model / "unet" / "config.json").write_text('{"other": 1}')
    for job in evaluated.started:
        shutil.rmtree(Path(job["out"]).parent)
    assert ldm(*words) == 0
    assert len(evaluated.started) == 4


def test_the_pictures_of_each_job_have_a_folder(ldm, command, evaluated, tmp_path):
    assert ldm(*command, f"samples={tmp_path / 'pictures'}") == 0
    assert evaluated.started[1]["samples"] == str(tmp_path / "pictures" / "steps=10,guidance=2")


def test_a_failed_job_is_listed_and_the_others_have_their_row(
    ldm, command, evaluated, tmp_path, capsys
):
    evaluated.codes["2"] = 1
    assert ldm(*command) == 1
    assert "failed: steps=10 guidance=2: it went wrong" in capsys.readouterr().err
    table = (tmp_path / "sweep" / "table.md").read_text()
    assert re.search(r"\| 10 \| 2 \| failed \| [\d.]+ \| – \| – \|", table)
    assert "Failed: steps=20, guidance=2 (it went wrong)." in table


def test_the_report_beside_it_shows_the_curve(ldm, command, evaluated, tmp_path):
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "report.html").touch()
    assert ldm(*command) == 0
    assert "each point its guidance" in (tmp_path / "report.html").read_text()


def test_mistakes_come_before_the_first_job(ldm, command, evaluated, tmp_path, capsys):
    others = [word for word in command if not word.startswith("guidance")]
    assert ldm(*others, "guidance=1,much") == 2
    assert "guidance='much' does not fit" in capsys.readouterr().err
    assert not evaluated.started and not (tmp_path / "sweep").exists()
    assert ldm(*command, f"model={tmp_path / 'nowhere'}") == 2
    assert "nowhere does not exist" in capsys.readouterr().err and not evaluated.started
    fixed = [word for word in command if not word.startswith(("guidance", "steps"))]
    assert ldm(*fixed) == 2
    assert "several values" in capsys.readouterr().err


def test_a_folder_without_a_sweep_is_none(tmp_path):
    assert read_sweep(tmp_path) is None


def test_what_a_job_lacks_is_said_before_the_first(ldm, command, jobs, capsys):
    jobs(lambda job: pytest.fail("started"))
    assert ldm(*command) == 2
    said = capsys.readouterr().err
    assert "steps=10 guidance=1: weights-inception" in said and "is missing" in said
