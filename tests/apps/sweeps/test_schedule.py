"""The loop of a sweep: places, hopeless jobs, failures, signals."""

import os
import signal

import pytest
from omegaconf import OmegaConf

from ldm.apps.exit_codes import INTERRUPTED, STOPPED
from ldm.apps.sweeps.display import Display
from ldm.apps.sweeps.grid import Grid
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.kind import Standing
from ldm.apps.sweeps.ledger import Ledger
from ldm.apps.sweeps.schedule import Schedule
from ldm.manifest import read_json


class Kind:
    """Jobs of no command, none of which is finished before."""

    command = "train"

    def is_finished(self, job):
        return False

    def began(self, job): ...

    def finished(self, job): ...

    def standing(self, job):
        return Standing()


class Launcher:
    """Jobs that end with ``codes`` after some looks, or when they are stopped, with 75."""

    poll_seconds, stays = 0.0, False

    def __init__(self, parallel, codes, looks=2):
        self.parallel, self.codes, self.looks = parallel, codes, looks
        self.most, self.begun, self.alive, self.stopped = 0, [], set(), []
        self.at_look = lambda: None

    def has(self, job):
        return False

    def start(self, job):
        self.begun.append(job.number)
        self.alive.add(job.number)
        self.most = max(self.most, len(self.alive))
        return Started(self, job.number)


class Started:
    def __init__(self, launcher, number):
        self.launcher, self.number, self.left = launcher, number, launcher.looks
        self.code = launcher.codes.get(number, 0)

    def poll(self):
        self.launcher.at_look()
        self.left -= 1
        if self.left >= 0:
            return None
        self.launcher.alive.discard(self.number)
        return self.code

    def stop(self):
        self.launcher.stopped.append(self.number)
        self.code, self.left = 75, 0

    def state(self):
        return "running"

    def why(self):
        return "for a reason"


@pytest.fixture
def run(tmp_path):
    def run(launcher, plan=Grid, count=4):
        jobs = [
            Job(i, (f"seed={i}",), tmp_path / f"seed={i}", (), OmegaConf.create({}))
            for i in range(1, count + 1)
        ]
        ledger = Ledger(tmp_path, {"command": "train"}, ["seed"])
        ledger.enter(jobs)
        schedule = Schedule(
            plan(jobs), kind=Kind(), launcher=launcher, ledger=ledger, display=Display(count)
        )
        try:
            code = schedule.run()
        finally:
            run.states = [job["state"] for job in read_json(tmp_path / "sweep.json")["jobs"]]
        return code

    return run


def test_so_many_jobs_run_at_a_time_and_a_failure_stops_none(run):
    launcher = Launcher(2, {2: 1})
    assert run(launcher) == 1
    assert launcher.begun == [1, 2, 3, 4] and launcher.most == 2 and not launcher.stopped
    assert run.states == ["finished", "failed", "finished", "finished"]


def test_a_hopeless_job_is_stopped_once_and_the_others_go_on(run):
    class Plan(Grid):
        def is_hopeless(self, job):
            return job.number == 2

    launcher = Launcher(1, {}, looks=5)
    assert run(launcher, Plan) == 0
    assert launcher.stopped == [2] and launcher.begun == [1, 2, 3, 4]
    assert run.states == ["finished", "pruned", "finished", "finished"]


def test_a_job_that_stops_by_itself_stops_the_sweep(run):
    launcher = Launcher(2, {1: 75}, looks=2)
    assert run(launcher) == STOPPED
    assert launcher.begun == [1, 2] and not launcher.stopped  # the other was at its end
    assert run.states[0] == "stopped" and run.states[2:] == ["waiting", "waiting"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 75)])
def test_a_signal_stops_all_that_run_and_nothing_is_begun(run, number, code):
    launcher = Launcher(2, {}, looks=10**6)
    looks = []
    launcher.at_look = lambda: (
        looks.append(0) or (os.kill(os.getpid(), number) if len(looks) == 3 else None)
    )
    assert run(launcher) == code
    assert sorted(launcher.stopped) == launcher.begun == [1, 2]
    assert run.states == ["stopped", "stopped", "waiting", "waiting"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_job_that_a_signal_to_all_ends_is_stopped_and_has_not_failed(run, number):
    launcher = Launcher(1, {1: -number}, looks=0)
    launcher.at_look = lambda: os.kill(os.getpid(), number)
    assert run(launcher) == STOPPED
    assert run.states == ["stopped", "waiting", "waiting", "waiting"]


def test_a_signal_without_a_stop_is_a_failure(run):
    assert run(Launcher(1, {1: -signal.SIGTERM})) == 1
    assert run.states == ["failed", "finished", "finished", "finished"]


def test_jobs_of_a_cluster_go_on_when_the_sweep_is_stopped(run, capsys):
    launcher = Launcher(2, {}, looks=10**6)
    launcher.stays = True
    looks = []
    launcher.at_look = lambda: (
        looks.append(0) or (os.kill(os.getpid(), signal.SIGTERM) if len(looks) == 3 else None)
    )
    assert run(launcher) == STOPPED
    assert not launcher.stopped and run.states[:2] == ["running", "running"]
    assert "[1/4] seed=1: goes on (running)" in capsys.readouterr().out


def test_no_job_goes_on_after_a_mistake_of_the_sweep(run):
    class Plan(Grid):
        def concluded(self, job, outcome):
            raise ValueError("the disk is full")

    launcher = Launcher(2, {}, looks=2)
    with pytest.raises(ValueError, match="disk"):
        run(launcher, Plan)
    assert launcher.stopped == [2]
