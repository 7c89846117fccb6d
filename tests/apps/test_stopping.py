"""Real processes that are told to stop or killed: how they end, and what goes on from there."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_flatten

from ldm.callbacks.metrics_log import read_jsonl

CHECKOUT = Path(__file__).resolve().parents[2]
LDM = [sys.executable, "-m", "ldm.apps.main"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
DDP = ["trainer=ddp", "accelerator=cpu", "precision=64-true"]
LONG = ["validate_every=100000", "preview.num=0", "learning_rate=constant"]
PATIENCE = 240.0  # seconds, for a busy machine


@pytest.fixture
def start():
    """Starts a command with its output in a file; what is left of it at the end is killed."""
    started = []

    def begin(words, output: Path) -> subprocess.Popen:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
        with open(output, "w") as file:
            process = subprocess.Popen(
                [str(word) for word in words], stdout=file, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(true, process: subprocess.Popen, output: Path) -> None:
    """Wait for something that a process brings about."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None and time.monotonic() < end, output.read_text()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)


def ranks(process: subprocess.Popen) -> dict[int, int]:
    """Process numbers of ``ldm train`` at or below ``process`` by rank."""
    found, waiting = {}, [process.pid]
    while waiting:
        number = waiting.pop()
        folder = Path(f"/proc/{number}")
        with contextlib.suppress(OSError):
            waiting += [int(n) for n in (folder / f"task/{number}/children").read_text().split()]
            words = (folder / "cmdline").read_text().split("\0")
            entries = (folder / "environ").read_text().split("\0")
            values = dict(entry.split("=", 1) for entry in entries if entry)
            if "train" in words and "torch.distributed.run" not in words:
                found[int(values.get("RANK", values.get("LOCAL_RANK", "0")))] = number
    return found


def lives(number: int) -> bool:
    """Whether a process is there and no mere entry of one that has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def steps(run: Path) -> int:
    rows = read_jsonl(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def saved(run: Path) -> int:
    """The step of the only newest checkpoint."""
    return max(int(p.stem.removeprefix("step_")) for p in (run / "checkpoints").glob("step_*.pt"))


def state(run: Path, step: int):
    """Everything in a checkpoint, flat, but who made it and when."""
    file = run / "checkpoints" / f"step_{step:09d}.pt"
    found = torch.load(file, weights_only=True)
    del found["record"]
    return tree_flatten(found)[0]


def gap(run: Path, other: Path, step: int) -> float:
    """The largest difference between two checkpoints."""
    pairs = list(zip(state(run, step), state(other, step), strict=True))
    return max(float((a - b).abs().max()) for a, b in pairs if isinstance(a, torch.Tensor))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_no_time_left_is_a_stop_before_the_first_step(world, ldm, tmp_path, capsys):
    run = tmp_path / "run"
    assert ldm(*world.train("text_encoder", run, "max_time=00:00:00")) == 75
    said = capsys.readouterr().out
    assert "max_time=00:00:00: stops in 0:00:00" in said
    assert "interrupted at step 0 (max_time), where it began; the same command goes on" in said
    assert ldm(*world.train("text_encoder", run, "max_time=9-00:00:00")) == 0
    assert gap(run, world.text_encoder, 4) == 0.0


@pytest.mark.slow
def test_max_time_of_one_process_saves_and_says_where(world, start, tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    words = world.train("diffusion", run, "max_steps=100000", "max_time=00:00:20", *LONG)
    process = start([*LDM, *words, "checkpoint_every=100000"], output)
    assert process.wait(PATIENCE) == 75, output.read_text()
    step, said = saved(run), output.read_text()
    assert step > 0 and f"interrupted at step {step} (max_time), which is saved" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_of_our_launcher_is_told_and_both_stop(world, start, tmp_path, rank):
    run, output = tmp_path / "run", tmp_path / "output"
    words = world.train("diffusion", run, *DDP, "devices=2", "max_steps=100000", *LONG)
    process = start([*LDM, *words, "checkpoint_every=100000"], output)
    until(lambda: steps(run) > 2, process, output)
    told = ranks(process)
    assert set(told) == {0, 1} and told[0] == process.pid
    os.kill(told[rank], signal.SIGUSR1)
    assert process.wait(PATIENCE) == 75, output.read_text()
    step, said = saved(run), output.read_text()
    assert step % 8 == 0 and said.count(f"interrupted at step {step} (SIGUSR1)") == 1
    assert "Traceback" not in said
    end = time.monotonic() + 10.0
    while lives(told[1]):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_torchrun_is_told_and_the_same_command_goes_on(world, start, tmp_path):
    """SIGTERM to torchrun, which passes it on; its own exit code is 1 whatever ours are."""
    run, output = tmp_path / "run", tmp_path / "output"
    words = world.train("diffusion", run, *DDP, "devices=2", *LONG)
    begin = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "ldm.apps.main"]
    process = start([*begin, *words, "max_steps=100000", "checkpoint_every=100000"], output)
    until(lambda: steps(run) > 2, process, output)
    process.terminate()
    assert process.wait(PATIENCE) != 0
    step = saved(run)
    assert f"interrupted at step {step} (SIGTERM), which is saved" in output.read_text()
    more = [f"max_steps={step + 2}", "checkpoint_every=2"]
    process = start([*begin, *words, *more], output)
    assert process.wait(PATIENCE) == 0, output.read_text()
    assert f"going on at step {step}" in output.read_text()


@pytest.mark.slow
def test_torchrun_restarts_what_was_killed(world, start, tmp_path):
    """kill -9 of one process, once: the run ends with the weights of one left in peace."""
    more = (*DDP, "devices=2", "max_steps=120", "checkpoint_every=10", *LONG)
    for name in ("killed", "peace"):
        run, output = tmp_path / name, tmp_path / f"{name}.txt"
        process = start(
            [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m",
             "ldm.apps.main", *world.train("diffusion", run, *more, "resume=never")],
            output,
        )  # fmt: skip
        if name == "killed":
            until(lambda: steps(run) > 15, process, output)  # noqa: B023
            os.kill(ranks(process)[1], signal.SIGKILL)
        assert process.wait(PATIENCE) == 0, output.read_text()
        assert ("going on at step" in output.read_text()) == (name == "killed")
    assert gap(tmp_path / "killed", tmp_path / "peace", 120) == 0.0
    assert not (tmp_path / "killed.1").exists()


@pytest.mark.slow
def test_two_nodes_train_what_one_process_does(world, ldm, start, tmp_path):
    run, port = tmp_path / "two", free_port()
    words = world.train("diffusion", run, *DDP, "devices=1", "num_nodes=2")
    processes = [
        start(
            [*TORCHRUN, "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
             "--master-addr=127.0.0.1", f"--master-port={port}", "-m", "ldm.apps.main", *words],
            tmp_path / f"{rank}.txt",
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for rank, process in enumerate(processes):
        assert process.wait(PATIENCE) == 0, (tmp_path / f"{rank}.txt").read_text()
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert "2 process(es)" in said[0] and "finished at step 4" in said[0] and "step" not in said[1]
    assert ldm(*world.train("diffusion", tmp_path / "one", "precision=64-true")) == 0
    assert gap(run, tmp_path / "one", 4) < 1e-9
