"""The SLURM script of the documentation, run by bash with stand-ins for SLURM's commands."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "train.sbatch"


def run(folder: Path, code: int) -> tuple[int, list[str]]:
    """Its exit code and the commands it gave, where ``srun`` ends with ``code``."""
    for name, result in (("srun", code), ("scontrol", 0)):
        command = folder / name
        command.write_text(f'#!/bin/sh\necho "{name} $*"\nexit {result}\n')
        command.chmod(0o755)
    slurm = {"SLURM_NNODES": "4", "SLURM_NTASKS_PER_NODE": "8", "SLURM_JOB_ID": "17"}
    slurm["SLURM_CPUS_PER_TASK"] = "12"
    done = subprocess.run(
        ["bash", "-u", SCRIPT, "experiment=sd1_256", "run=/a b"],
        env=os.environ | slurm | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130])
def test_only_a_stopped_run_goes_back_to_the_queue(tmp_path, code):
    found, commands = run(tmp_path, code)
    assert found == code
    assert "srun --cpus-per-task=12 " in commands[0]
    assert commands[0].endswith("ldm train experiment=sd1_256 run=/a b num_nodes=4 devices=8")
    assert commands[1:] == (["scontrol requeue 17"] if code == 75 else [])


def test_the_signal_is_one_that_stops_a_run():
    from ldm.apps.compose import compose

    name = re.search(r"--signal=(\w+)@", SCRIPT.read_text())[1]
    words = ["experiment=demo_diffusion", "data.root=x"]
    assert f"SIG{name}" in compose("train", words).stop_signals
