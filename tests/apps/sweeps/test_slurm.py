"""SLURM: scripts, the queue, requeueing and adoption, with stand-ins for its commands."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldm.apps.compose import compose
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.launchers.sbatch import script
from ldm.apps.sweeps.launchers.slurm import SlurmLauncher
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json

CHECKOUT = Path(__file__).resolve().parents[3]
COMMANDS = {
    "sbatch": """
        n=$(($(ls $S/*.path 2>/dev/null | wc -l) + 1)); echo "$2" > $S/$n.path
        touch $S/$n.running
        env --default-signal=INT setsid $S/daemon $n >/dev/null 2>&1 & echo $n""",
    "daemon": """
        file=$(cat $S/$1.path)
        out=$(sed -n 's/^#SBATCH --output="\\{0,1\\}\\([^"]*\\)"\\{0,1\\}$/\\1/p' "$file")
        while :; do
            SLURM_JOB_ID=$1 bash "$file" >> "$out" 2>&1; code=$?
            [ -e $S/$1.requeue ] || break; rm $S/$1.requeue
        done
        echo $code > $S/$1.code; rm $S/$1.running""",
    "squeue": """
        for f in $S/*.running; do [ -e $f ] && echo "$(basename $f .running) RUNNING"; done
        exit 0""",
    "sacct": """
        while [ "$1" != -j ]; do shift; done; [ -e $S/$2.code ] || exit 0
        c=$(cat $S/$2.code); [ $c = 0 ] && echo "COMPLETED|0:0" || echo "OUT_OF_MEMORY|$c:0" """,
    "srun": """
        while [ "${1#--}" != "$1" ]; do shift; done; echo $$ > $S/$SLURM_JOB_ID.pid
        [ -e $S/task ] && exec sh $S/task "$@"; exec "$@" """,
    "scontrol": """touch $S/$2.requeue""",
    "scancel": """
        echo "$@" >> $S/scancel.log; [ "$1" = --signal=INT ] && kill -INT $(cat $S/$2.pid)""",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of a cluster of one machine; ``task`` in it is run instead of the jobs' words."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/bash\nS={folder}\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder
    for file in folder.glob("*.pid"):
        subprocess.run(["kill", "-9", file.read_text().strip()], capture_output=True)


def settings(*words):
    return compose("sweep", ["launcher=slurm", "launcher.poll_seconds=0.05", *words]).launcher


def a_job(directory: Path, **config) -> Job:
    config = {"stop_signals": ["SIGTERM", "SIGUSR1"]} | config
    directory.mkdir(exist_ok=True)
    return Job(1, ("lr=1",), directory, ("lr=1", "run=a b"), OmegaConf.create(config))


def end_of(started) -> int:
    end = time.monotonic() + 60
    while (code := started.poll()) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return code


def test_the_script_asks_for_what_the_job_needs(tmp_path):
    launcher = settings(
        "launcher.partition=gpu", "launcher.account=me", "launcher.memory=64G", "launcher.cpus=6",
        "launcher.extra=['#SBATCH --qos=high','module load cuda']",
    )  # fmt: skip
    job = a_job(tmp_path / "my job", devices=2, num_nodes=3, accelerator="gpu")
    text = script("train", job, launcher)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.M))
    assert options["nodes"] == "3" and options["ntasks-per-node"] == "2"
    assert options["gpus-per-node"] == "2" and options["cpus-per-task"] == "6"
    assert options["partition"] == "gpu" and options["account"] == "me" and options["mem"] == "64G"
    assert options["time"] == "24:00:00" and options["signal"] == "USR1@300"
    assert options["output"] == f'"{tmp_path / "my job" / "output.log"}"'
    lines = text.splitlines()
    assert lines.index("#SBATCH --qos=high") < lines.index("module load cuda")
    assert "#SBATCH --requeue" in lines and "train lr=1 'run=a b'" in text
    assert 'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ' in text
    assert "#SBATCH --gpus-per-node=1\n" in script(
        "evaluate", a_job(tmp_path, accelerator="auto"), settings()
    )
    alone = script("evaluate", a_job(tmp_path, devices=4, accelerator="cpu"), settings())
    assert "--ntasks-per-node=1\n" in alone and "--cpus-per-task=16\n" in alone
    assert "gpus-per-node" not in alone
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_exit_codes_come_back_and_a_stopped_job_goes_on(slurm, tmp_path):
    (slurm / "task").write_text(
        f'echo "ldm: try" >> {slurm}/tries; [ $(wc -l < {slurm}/tries) -lt 3 ] && exit 75; exit 0'
    )
    (tmp_path / "job").mkdir()
    assert end_of(SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))) == 0
    assert len((slurm / "tries").read_text().splitlines()) == 3  # the same job, requeued twice
    assert len([*slurm.glob("*.path")]) == 1
    (slurm / "task").write_text("echo 'ldm: lr=1 is odd'; exit 2")
    started = SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    assert end_of(started) == 2 and started.why() == "lr=1 is odd"


@pytest.mark.parametrize(
    ("command", "signals", "asked"),
    [
        ("train", ["SIGTERM"], "--signal=TERM@300"),
        ("train", ["SIGUSR2", "SIGUSR1"], "--signal=USR1@300"),
        ("train", [], None),
        ("evaluate", [], "--signal=USR1@300"),
    ],
)
def test_a_job_gets_a_signal_that_it_listens_to(tmp_path, command, signals, asked):
    text = script(command, a_job(tmp_path, stop_signals=signals), settings())
    assert re.findall("--signal=.*", text) == ([asked] if asked else [])


def test_an_evaluation_that_the_end_of_its_time_ends_goes_back_to_the_queue(slurm, tmp_path):
    (slurm / "task").write_text(
        f"echo try >> {slurm}/tries; [ $(wc -l < {slurm}/tries) -lt 2 ] && kill -USR1 $$; exit 0"
    )
    assert end_of(SlurmLauncher("evaluate", settings()).start(a_job(tmp_path / "job"))) == 0
    assert len((slurm / "tries").read_text().splitlines()) == 2
    assert len([*slurm.glob("*.path")]) == 1


def fails(slurm: Path, command: str, said: str) -> Path:
    """Let a command of the cluster fail; what is to be renamed back when it shall work again."""
    works = (slurm / command).rename(slurm / f"{command}_works")
    (slurm / command).write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    (slurm / command).chmod(0o755)
    return works


def test_a_later_refusal_is_tried_again_and_then_fails_its_job_alone(slurm, tmp_path):
    (slurm / "task").write_text("exit 0")
    launcher = SlurmLauncher("train", settings())
    assert end_of(launcher.start(a_job(tmp_path / "a"))) == 0
    accepts = fails(slurm, "sbatch", "error: QOSMaxSubmitJobPerUserLimit")
    later, never = launcher.start(a_job(tmp_path / "b")), launcher.start(a_job(tmp_path / "c"))
    assert later.poll() is None and "not in the queue yet: sbatch refused" in later.state()
    assert end_of(never) == 1 and "QOSMaxSubmitJobPerUserLimit" in never.why()
    accepts.rename(slurm / "sbatch")
    assert end_of(later) == 0


def test_a_limit_of_the_queue_is_waited_for(slurm, tmp_path):
    (slurm / "task").write_text(f"while [ ! -e {slurm}/go ]; do sleep 0.05; done; exit 0")
    launcher = SlurmLauncher("train", settings())
    first = launcher.start(a_job(tmp_path / "a"))
    assert first.poll() is None
    accepts = fails(slurm, "sbatch", "error: QOSMaxSubmitJobPerUserLimit")
    later = launcher.start(a_job(tmp_path / "b"))
    for _ in range(30):
        assert later.poll() is None
    accepts.rename(slurm / "sbatch")
    (slurm / "go").touch()
    assert end_of(first) == end_of(later) == 0


def test_a_busy_controller_makes_no_job_fail(slurm, tmp_path):
    (slurm / "task").write_text(f"while [ ! -e {slurm}/go ]; do sleep 0.05; done; exit 0")
    launcher = SlurmLauncher("train", settings())
    started = launcher.start(a_job(tmp_path / "job"))
    assert started.poll() is None
    answers = fails(slurm, "squeue", "slurm_load_jobs error")
    launcher.queue.forget()
    for _ in range(20):
        assert started.poll() is None
        time.sleep(0.02)
    assert started.state() == "job 1 unknown"
    second = SlurmLauncher("train", settings())
    with pytest.raises(ValueError, match="squeue does not answer: slurm_load_jobs"):
        second.start(a_job(tmp_path / "job"))  # it may be in the queue, or not
    answers.rename(slurm / "squeue")
    (slurm / "go").touch()
    assert end_of(started) == 0


def test_a_grid_for_gpus_is_submitted_where_there_are_none(slurm, world, ldm, tmp_path, capsys):
    (slurm / "task").write_text("exit 0")
    words = world.train("text_encoder", tmp_path, f"sweep_dir={tmp_path / 'grid'}")
    words = ["train", "-m", *(word for word in words[1:] if not word.startswith("run="))]
    words += ["trainer=gpu", "devices=2", "launcher.poll_seconds=0.05", "seed=1,2"]
    assert ldm(*words, "launcher=slurm") == 0
    assert "--gpus-per-node=2" in (tmp_path / "grid" / "seed=2" / "job.sbatch").read_text()
    assert capsys.readouterr().out.count("note: ") <= 1


def test_a_job_in_the_queue_is_taken_up_by_the_next_sweep(slurm, tmp_path):
    (slurm / "task").write_text(f"while [ ! -e {slurm}/go ]; do sleep 0.05; done; exit 0")
    (tmp_path / "job").mkdir()
    first = SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    assert first.poll() is None and first.state() == "job 1 running"
    second = SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    assert second.number == first.number and len([*slurm.glob("*.path")]) == 1
    (slurm / "go").touch()
    assert end_of(second) == 0


def test_a_job_that_could_not_say_its_end_is_asked_of_sacct(slurm, tmp_path):
    (slurm / "task").write_text("kill -9 $PPID")  # with its script
    (tmp_path / "job").mkdir()
    started = SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    assert end_of(started) == 137
    assert "SLURM's job 1 ended as OUT_OF_MEMORY" in started.why()


def test_a_pruned_job_gets_ctrl_c_and_does_not_come_back(slurm, tmp_path):
    (slurm / "task").write_text(
        f"trap 'exit 130' INT; touch {slurm}/up; while :; do sleep 0.05; done"
    )
    (tmp_path / "job").mkdir()
    started = SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    while not (slurm / "up").exists():
        time.sleep(0.02)
    started.stop()
    assert end_of(started) == 130 and "--signal=INT 1" in (slurm / "scancel.log").read_text()


def test_refusals_are_sentences(slurm, tmp_path, monkeypatch):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'error: invalid partition' >&2; exit 1\n")
    (tmp_path / "job").mkdir()
    with pytest.raises(ValueError, match="invalid partition.*launcher.partition"):
        SlurmLauncher("train", settings()).start(a_job(tmp_path / "job"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="sbatch, squeue, scancel cannot be called here"):
        SlurmLauncher("train", settings())


@pytest.mark.slow
def test_a_grid_on_a_cluster_outlives_its_sweep(slurm, world, ldm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    words = world.train("text_encoder", tmp_path, "max_steps=2", f"sweep_dir={tmp_path / 'grid'}")
    words = ["train", "-m", *(word for word in words[1:] if not word.startswith("run="))]
    words += ["launcher=slurm", "launcher.poll_seconds=0.1", "launcher.parallel=2", "seed=1,2"]
    assert ldm(*words) == 0
    root = tmp_path / "grid"
    for seed in ("seed=1", "seed=2"):
        assert read_jsonl(root / seed / "metrics.jsonl")[-1]["step"] == 2
        assert (root / seed / "job.sbatch").is_file() and (root / seed / "output.log").is_file()
    assert {read_json(root / seed / "job.json")["job"] for seed in ("seed=1", "seed=2")} == {
        "1", "2",
    }  # fmt: skip
    capsys.readouterr()
    assert ldm(*words) == 0 and capsys.readouterr().out.count("finished already") == 2
