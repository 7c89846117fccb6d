"""`ldm evaluate -m`: every combination is evaluated once, and one table holds all numbers."""

import csv
import json
import sys
from pathlib import Path

import pytest

from ldm.apps.exit_codes import INTERRUPTED
from ldm.apps.report.sweep_rows import read_sweep
from ldm.metrics.protocol import record


@pytest.fixture
def jobs(monkeypatch):
    """Stands for the processes: each job leaves the numbers that follow from its settings."""
    started: list[dict[str, str]] = []
    codes: dict[str, int] = {}  # by guidance

    def run(words):
        assert words[:4] == [sys.executable, "-m", "ldm.apps.main", "evaluate"]
        given = dict(word.split("=", 1) for word in words[4:])
        started.append(given)
        if code := codes.get(given["guidance"]):
            return code
        guidance, steps = float(given["guidance"]), int(given["steps"])
        protocol = {"guidance": guidance, "steps": steps, "n": 256}
        out = Path(given["out"])
        out.parent.mkdir(parents=True)
        numbers = {
            "FID-256": 30 + (guidance - 3) ** 2 - steps / 10,
            "clip_score": 0.2 + guidance / 100,
            "clip_score.real": 0.3,
        }
        out.write_text(json.dumps({k: record(v, **protocol) for k, v in numbers.items()}))
        return 0

    monkeypatch.setattr("ldm.apps.sweep.run_child", run)
    monkeypatch.setattr("ldm.apps.evaluation_sweep.asked", lambda config: None)  # weights are here
    run.started, run.codes = started, codes
    return run


@pytest.fixture
def command(world, tmp_path):
    return [
        "evaluate", "-m", f"model={world.root}", f"data.root={world.shards}", "metrics=[fid]",
        "negative=blurry, dull", "steps=10,20", "guidance=1,2,4", f"out={tmp_path / 'sweep'}",
    ]  # fmt: skip


def test_all_combinations_share_their_notes_and_end_in_one_table(ldm, command, jobs, tmp_path):
    assert ldm(*command) == 0
    root = tmp_path / "sweep"
    assert [(job["guidance"], job["steps"]) for job in jobs.started] == [
        ("1", "10"), ("2", "10"), ("4", "10"), ("1", "20"), ("2", "20"), ("4", "20"),
    ]  # fmt: skip
    assert {job["notes"] for job in jobs.started} == {str(root / "notes")}
    assert jobs.started[0]["out"] == str(root / "steps=10,guidance=1" / "metrics.json")
    assert jobs.started[0]["negative"] == "blurry, dull"  # one text, however many commas
    rows = list(csv.DictReader((root / "table.csv").read_text().splitlines()))
    assert len(rows) == 6 and list(rows[0]) == [
        "steps", "guidance", "FID-256", "clip_score", "clip_score.real",
    ]  # fmt: skip
    assert float(rows[4]["FID-256"]) == 29.0
    table = (root / "table.md").read_text()
    assert "| 20 | 4 | **29** | **0.24** |" in table and "| 20 | 2 | **29** | 0.22 |" in table
    assert "clip_score.real" not in table  # part of another, which is in the CSV
    assert "not joined" not in table
    assert (root / "index.html").is_file()


def test_finished_jobs_are_not_started_again(ldm, command, jobs, tmp_path, capsys):
    jobs.codes["4"] = INTERRUPTED
    assert ldm(*command) == INTERRUPTED
    jobs.codes.clear()
    jobs.started.clear()
    assert ldm(*command) == 0
    assert [job["guidance"] for job in jobs.started] == ["4", "1", "2", "4"]
    assert capsys.readouterr().out.count("finished already") == 2
    jobs.started.clear()
    more = [word.replace("guidance=1,2,4", "guidance=1,8") for word in command]
    assert ldm(*more) == 0  # another grid in the same folder
    assert [job["guidance"] for job in jobs.started] == ["8", "8"]
    jobs.started.clear()
    for file in (tmp_path / "sweep").glob("*/metrics.json"):
        file.parent.rename(tmp_path / file.parent.name)  # so that the jobs make them anew
    assert ldm(*more, "seed=7") == 0
    assert len(jobs.started) == 4


def test_another_model_in_the_same_place_is_evaluated_anew(ldm, jobs, world, tmp_path):
    model = tmp_path / "model"
    for part in ("unet", "vae"):
        (model / part).mkdir(parents=True)
        (model / part / "config.json").write_text("{}")
    words = ["evaluate", "-m", f"model={model}", f"data.root={world.shards}", "metrics=[fid]"]
    words += ["guidance=1,2", "steps=10", f"out={tmp_path / 'sweep'}"]
    assert ldm(*words) == ldm(*words) == 0
    assert len(jobs.started) == 2
    (model / "unet" / "config.json").write_text('{"other": 1}')
    for job in jobs.started:
        Path(job["out"]).unlink()
        Path(job["out"]).parent.rmdir()
    assert ldm(*words) == 0
    assert len(jobs.started) == 4


def test_the_pictures_of_each_job_have_a_folder(ldm, command, jobs, tmp_path):
    assert ldm(*command, f"samples={tmp_path / 'pictures'}") == 0
    assert jobs.started[1]["samples"] == str(tmp_path / "pictures" / "steps=10,guidance=2")


def test_a_failed_job_is_listed_and_the_others_have_their_row(ldm, command, jobs, tmp_path, capsys):
    jobs.codes["2"] = 1
    assert ldm(*command) == 1
    assert "failed: steps=10 guidance=2" in capsys.readouterr().err
    table = (tmp_path / "sweep" / "table.md").read_text()
    assert "| 10 | 2 | – | – |" in table
    assert "Failed or not finished: steps=20, guidance=2." in table


def test_the_report_beside_it_shows_the_curve(ldm, command, jobs, tmp_path):
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "report.html").touch()
    assert ldm(*command) == 0
    assert "each point its guidance" in (tmp_path / "report.html").read_text()


def test_mistakes_come_before_the_first_job(ldm, command, jobs, tmp_path, capsys):
    assert ldm(*command, "guidance=1,much") == 2
    assert "guidance='much' does not fit" in capsys.readouterr().err
    assert not jobs.started and not (tmp_path / "sweep").exists()
    assert ldm(*command, f"model={tmp_path / 'nowhere'}") == 2
    assert "nowhere does not exist" in capsys.readouterr().err and not jobs.started
    fixed = [word for word in command if not word.startswith(("guidance", "steps"))]
    assert ldm(*fixed) == 2
    assert "several values" in capsys.readouterr().err


def test_a_folder_without_a_sweep_is_none(tmp_path):
    assert read_sweep(tmp_path) is None


def test_what_a_job_lacks_is_said_before_the_first(ldm, command, monkeypatch, capsys):
    monkeypatch.setattr("ldm.apps.sweep.run_child", lambda words: pytest.fail("started"))
    assert ldm(*command) == 2
    said = capsys.readouterr().err
    assert "steps=10 guidance=1: weights-inception" in said and "is missing" in said
