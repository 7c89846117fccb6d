"""Grids: readable directories; what is finished is skipped, what was interrupted goes on."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.apps.sweeps.command import sweep
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.ledger import Ledger
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json, read_manifest

CHECKOUT = Path(__file__).resolve().parents[3]
PATIENCE = 300.0  # seconds, for a busy machine


@pytest.fixture
def command(world, tmp_path):
    """The words of a sweep over one-step runs, without what it varies."""
    words = world.train("text_encoder", tmp_path, "max_steps=1", f"sweep_dir={tmp_path / 'grid'}")
    return ["train", "-m", *(word for word in words[1:] if not word.startswith("run="))]


def states(root):
    return {job["directory"]: job["state"] for job in read_json(root / "sweep.json")["jobs"]}


def test_a_grid_makes_readable_directories_and_goes_on(command, ldm, tmp_path, capsys, in_process):
    root = tmp_path / "grid"
    words = [*command, "seed=1,2", "max_gradient_norm=1.0"]
    assert ldm(*words) == 0
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == ["seed=1", "seed=2"]
    assert read_manifest(root / "seed=2").settings["seed"] == 2
    said = capsys.readouterr().out
    assert "2 of 2 jobs finished" in said and f"output in {root / 'seed=1' / 'output.log'}" in said
    assert "finished at step 1" in (root / "seed=1" / "output.log").read_text()
    rows = list(csv.DictReader((root / "table.csv").read_text().splitlines()))
    assert [(r["seed"], r["state"], r["step"]) for r in rows] == [
        ("1", "finished", "1"), ("2", "finished", "1"),
    ]  # fmt: skip
    before = {p: p.stat().st_mtime_ns for p in (root / "seed=1").rglob("*") if p.is_file()}
    assert ldm(*words) == 0
    assert capsys.readouterr().out.count("finished already") == 2 and len(in_process) == 2
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert ldm(*words[:-2], "seed=2,3", "max_gradient_norm=1.0") == 0  # more of the same
    assert [*states(root)] == ["seed=1", "seed=2", "seed=3"] and len(in_process) == 3


def test_a_stopped_grid_passes_over_resumes_and_runs(command, ldm, tmp_path, capsys, jobs):
    def stops_in_the_third(job):
        no_time = ["max_time=00:00:00"] if job.number == 3 else []
        return ldm("train", *job.arguments, *no_time)

    words = [*command, "lr=1e-3,2e-3", "warmup_steps=0,1"]
    started = jobs(stops_in_the_third)
    assert ldm(*words) == STOPPED
    root = tmp_path / "grid"
    names = [f"lr={lr},warmup_steps={w}" for lr in ("0.001", "0.002") for w in (0, 1)]
    assert [job.name for job in started] == names[:3]
    assert [*states(root).items()] == [
        *zip(names, ["finished", "finished", "stopped", "waiting"], strict=True)
    ]
    capsys.readouterr()
    again = jobs(lambda job: ldm("train", *job.arguments))
    assert ldm(*words) == 0
    assert [job.name for job in again] == names[2:]
    said = capsys.readouterr().out
    assert said.count("finished already") == 2 and "4 of 4 jobs finished" in said


def test_all_mistakes_are_found_before_the_first_job(command, ldm, tmp_path, capsys, in_process):
    def complaint(*words):
        assert ldm(*words) == 2
        return capsys.readouterr().err

    assert "lr='fast' does not fit" in complaint(*command, "lr=1e-3,fast")
    assert "several values" in complaint(*command)
    assert "not `ldm sample`" in complaint("sample", "-m", "model=x", "seed=1,2")
    assert "sweep=tpe" in complaint(*command, "lr=interval(1e-4,1e-3)")
    assert "'seeed' is not a setting" in complaint(*command, "seeed=1,2")
    assert "seed= is varied twice" in complaint(*command, "seed=1,2", "seed=3,4")
    for run in ("run=x", "run=x,y"):
        assert "sweep_dir=DIR" in complaint(*command, "seed=1,2", run)
    assert not (tmp_path / "grid").exists() and not in_process


def test_a_failing_job_does_not_stop_the_others(command, ldm, tmp_path, capsys, in_process):
    blocked = tmp_path / "grid" / "seed=1"
    blocked.mkdir(parents=True)
    (blocked / "a file of the user").touch()
    assert ldm(*command, "seed=1,2") == 1
    captured = capsys.readouterr()
    assert "failed: seed=1: run=" in captured.err and "holds other files" in captured.err
    assert f"output: {blocked / 'output.log'}" in captured.err
    assert "1 of 2 jobs finished" in captured.out
    assert (tmp_path / "grid" / "seed=2" / "model").is_dir()
    assert "Failed: seed=1 (run=" in (tmp_path / "grid" / "table.md").read_text()


def test_a_note_is_said_once_and_a_mistake_names_its_job(command, ldm, tmp_path, capsys, jobs):
    started = jobs(lambda job: 0)
    words = [w for w in command if not w.startswith(("max_steps=", "warmup_steps="))]
    assert ldm(*words, "max_steps=4", "warmup_steps=5", "seed=1,2,3") == 0
    assert capsys.readouterr().out.count("note: warmup_steps=5") == 1 and len(started) == 3
    assert ldm(*command, "strategy=auto,fsdp", f"sweep_dir={tmp_path / 'b'}") == 2
    assert "ldm: strategy=fsdp: 3 things do not fit:" in capsys.readouterr().err


def test_what_was_fixed_stays_so_in_a_directory(command, ldm, tmp_path, capsys, jobs):
    started = jobs(lambda job: 0)
    words = [*command, "lr=1e-3,2e-3", "seed=1,2"]
    assert ldm(*words) == 0 and len(started) == 4
    assert ldm(*words[:-2], "seed=2,3", "lr=1e-3,2e-3", "validate_every=1") == 0  # how it is run
    assert [*states(tmp_path / "grid")][-1] == "lr=0.002,seed=3" and len(started) == 8
    assert ldm(*words, "drop_rate=0.5", "weights_dir=elsewhere") == 2
    assert "other settings (drop_rate: not given -> 0.5)" in capsys.readouterr().err
    assert ldm(*words, "sweep=random") == 2
    said = capsys.readouterr().err
    assert "holds a grid of `ldm train` over lr, seed, and this is a search" in said


def test_what_another_command_did_until_the_lock_is_kept(tmp_path):
    def jobs_of(*seeds):
        return [Job(s, (f"seed={s}",), tmp_path / f"seed={s}", (), OmegaConf.create({}))
                for s in seeds]  # fmt: skip

    head = {"command": "train", "method": "grid"}
    ours, theirs = (Ledger(tmp_path, head, ["seed"]) for _ in range(2))
    with theirs.held():
        theirs.enter(jobs_of(1))
    with ours.held():
        ours.enter(jobs_of(2))
    assert [*states(tmp_path)] == ["seed=1", "seed=2"]


def test_a_sweep_inside_a_multi_process_job_is_refused(monkeypatch):
    from ldm.apps.errors import UserError

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started once, not by torchrun"):
        sweep("train", ["seed=1,2"], config_dir=None)


def test_one_command_at_a_time_in_a_sweep(command, ldm, capsys, jobs):
    refused = []
    jobs(lambda job: refused.append(ldm(*command, "seed=1,2")) or 0)
    ldm(*command, "seed=1,2")
    assert refused == [2, 2]


# Real processes.


def begin(words, output: Path, **more: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)} | more
    with open(output, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "ldm.apps.main", *words],
            stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip


def wait_for(true, process, output):
    end = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None and time.monotonic() < end, output.read_text()
        time.sleep(0.05)


def kill(process):
    """The sweep at once, and its jobs, each of which has a session of its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    for child in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def steps(run: Path) -> int:
    rows = read_jsonl(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


@pytest.mark.slow
def test_a_killed_grid_of_real_processes_goes_on_where_it_was(command, tmp_path):
    root, output = tmp_path / "grid", tmp_path / "said"
    words = [w for w in command if not w.startswith(("max_steps=", "checkpoint_every="))]
    words += ["lr=1e-3,2e-3", "warmup_steps=0,1", "max_steps=60", "checkpoint_every=2"]
    third = root / "lr=0.002,warmup_steps=0"
    process = begin(words, output)
    try:
        wait_for(lambda: [*(third / "checkpoints").glob("step_*")], process, output)
    finally:
        kill(process)
    assert not (third / "manifest.json").exists()
    done = {n: (root / n / "manifest.json").stat().st_mtime_ns for n in (
        "lr=0.001,warmup_steps=0", "lr=0.001,warmup_steps=1",
    )}  # fmt: skip
    process = begin(words, output)
    assert process.wait(PATIENCE) == 0, output.read_text()
    said = output.read_text()
    assert said.count("finished already") == 2 and "4 of 4 jobs finished" in said
    assert "going on at step" in (third / "output.log").read_text()
    assert all((root / n / "manifest.json").stat().st_mtime_ns == t for n, t in done.items())
    assert len([p for p in root.iterdir() if p.is_dir()]) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGHUP, STOPPED)]
)
def test_a_signal_to_all_saves_the_running_job_and_ends_the_sweep(number, code, command, tmp_path):
    root, output = tmp_path / "grid", tmp_path / "said"
    words = [w for w in command if not w.startswith(("max_steps=", "checkpoint_every="))]
    words += ["seed=1,2", "max_steps=100000", "checkpoint_every=100000", "validate_every=100000"]
    process = begin(words, output)
    try:
        wait_for(lambda: steps(root / "seed=1") >= 2, process, output)
        os.killpg(process.pid, number)  # as a terminal does by Ctrl-C, and as it is closed
        assert process.wait(PATIENCE) == code
    finally:
        if process.poll() is None:
            kill(process)
    assert [*(root / "seed=1" / "checkpoints").glob("step_*")]
    assert "which is saved" in (root / "seed=1" / "output.log").read_text()
    assert states(root) == {"seed=1": "stopped", "seed=2": "waiting"}


@pytest.mark.slow
def test_jobs_of_two_processes_make_one_directory_each(world, tmp_path):
    words = world.train("diffusion", tmp_path, "max_steps=2", f"sweep_dir={tmp_path / 'grid'}")
    words = ["train", "-m", *(word for word in words[1:] if not word.startswith("run="))]
    words += ["trainer=ddp", "devices=2", "accelerator=cpu", "precision=32-true", "seed=1,2"]
    output = tmp_path / "said"
    process = begin([*words, "launcher.parallel=2"], output)
    assert process.wait(PATIENCE) == 0, output.read_text()
    root = tmp_path / "grid"
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == ["seed=1", "seed=2"]
    for name in ("seed=1", "seed=2"):
        said = (root / name / "output.log").read_text()
        assert said.count("finished at step 2") == 1 and "2 process(es)" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid", "said"]


@pytest.mark.slow
def test_a_killed_search_of_real_processes_goes_on_with_its_trial(world, tmp_path):
    root, output = tmp_path / "search", tmp_path / "said"
    words = world.train("diffusion", tmp_path, f"sweep_dir={root}", "max_steps=40")
    words = ["train", "-m", *(w for w in words[1:] if not w.startswith(("run=", "validate_every")))]
    words += ["validate_every=10", "drop_rate=interval(0,0.3)", "sweep=random", "sweep.trials=3"]
    process = begin(words, output)
    try:
        wait_for(lambda: [*root.glob("*/manifest.json")], process, output)
        wait_for(lambda: len([*root.glob("*/checkpoints/step_*")]) > 2, process, output)
    finally:
        kill(process)
    before = {path.name for path in root.iterdir() if path.is_dir()}
    assert len(before) == 2
    process = begin(words, output)
    assert process.wait(PATIENCE) == 0, output.read_text()
    names = {path.name for path in root.iterdir() if path.is_dir()}
    assert before < names and len(names) == 3
    said = output.read_text()
    assert "[2/3]" in said and "[1/3]" not in said and "3 of 3 jobs finished" in said
