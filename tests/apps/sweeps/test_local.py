"""Processes of this machine: their output, their share of it, signals, and orphans."""

import os
import signal
import sys
import time

import pytest
from omegaconf import OmegaConf

from ldm.apps.evaluations.held import held
from ldm.apps.sweeps.job import Job
from ldm.apps.sweeps.launchers.local import LocalJob, share
from ldm.data.lock import alone


def a_job(directory, **config):
    return Job(1, ("lr=1",), directory, ("lr=1",), OmegaConf.create(config))


def end_of(started):
    end = time.monotonic() + 60
    while (code := started.poll()) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return code


def python(text):
    return [sys.executable, "-c", text]


def test_output_is_kept_over_sittings_and_the_last_words_said(tmp_path):
    job = a_job(tmp_path / "job")
    for code, said in ((3, "first"), (2, "ldm: second")):
        started = LocalJob(
            job, python(f"print('{said}'); raise SystemExit({code})"), {**os.environ}
        )
        assert end_of(started) == code
    assert job.log.read_text() == "first\nldm: second\n" and started.why() == "second"
    started = LocalJob(job, python("import os; os.kill(os.getpid(), 9)"), {**os.environ})
    assert end_of(started) == -9 and "SIGKILL, perhaps for want of memory" in started.why()


def test_a_job_is_stopped_by_its_own_signal(tmp_path):
    listens = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *a: sys.exit(75))\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(0.05)"
    )
    job = a_job(tmp_path / "job", stop_signals=["SIGUSR1"])
    started = LocalJob(job, python(listens), {**os.environ})
    while not job.log.read_text():
        time.sleep(0.02)
    started.stop()
    assert end_of(started) == 75


def test_a_directory_in_which_another_is_at_work_is_waited_for(tmp_path):
    job = a_job(tmp_path / "job")
    job.directory.mkdir()
    with alone(job.directory / "lock", "held"):
        started = LocalJob(job, python("print('now')"), {**os.environ})
        assert started.poll() is None and "another process" in started.state()
        assert not job.log.exists()
    assert end_of(started) == 0 and job.log.read_text() == "now\n"
    with alone(job.directory / "lock", "held"):
        started = LocalJob(job, python("print('never')"), {**os.environ})
        started.stop()
        assert started.poll() == -signal.SIGTERM


def test_trials_of_the_same_values_go_one_after_the_other(tmp_path):
    """Each would have the run to itself only after seconds of imports."""
    job, twin = a_job(tmp_path / "job"), a_job(tmp_path / "job")
    alone = "import os, time; os.mkdir('busy'); time.sleep(0.3); os.rmdir('busy')"
    there = f"import os; os.chdir({str(tmp_path)!r}); {alone}"
    both = [LocalJob(each, python(there), {**os.environ}) for each in (job, twin)]
    assert both[1].poll() is None and "another process" in both[1].state()
    assert [end_of(started) for started in both] == [0, 0]


@pytest.mark.parametrize(("asked", "expected"), [(None, "4"), ("2", "2"), ("16", "4")])
def test_jobs_beside_each_other_share_the_cores(tmp_path, monkeypatch, asked, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda of: range(8), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    job = a_job(tmp_path, accelerator="cpu", devices=1)
    assert share(0, 2, job) == {"OMP_NUM_THREADS": expected}
    assert share(0, 1, job) == {}


def test_what_is_sent_to_the_group_of_the_sweep_does_not_reach_its_jobs(tmp_path):
    job = a_job(tmp_path / "job")
    alone_in_it = python("import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())")
    assert end_of(LocalJob(job, alone_in_it, {**os.environ})) == 0
    assert job.log.read_text() == "True\n"


def test_an_evaluation_that_is_at_work_is_waited_for(tmp_path):
    job = a_job(tmp_path / "job")
    with held(job.directory / "metrics.json"):
        started = LocalJob(job, python("print('now')"), {**os.environ})
        assert started.poll() is None and "another process" in started.state()
        with pytest.raises(ValueError, match="being made by another process"):
            held(job.directory / "metrics.json").__enter__()
    assert end_of(started) == 0 and not (job.directory / "metrics.json.lock").exists()


def test_jobs_beside_each_other_have_gpus_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    job = a_job(tmp_path, accelerator="gpu", devices=2)
    assert share(0, 2, job)["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert share(1, 2, job)["CUDA_VISIBLE_DEVICES"] == "6,7"
