"""What a run logs and draws when the disk is full: said, and nothing of the log is lost."""

import resource
from contextlib import contextmanager
from types import SimpleNamespace

import torch

from ldm.callbacks.metrics_log import JsonlLogger, read_jsonl
from ldm.callbacks.patience import Patience
from ldm.callbacks.sample_grid import SampleGrid
from tests.callbacks.test_checkpoint import make_module


@contextmanager
def full_at(size):
    """No file grows beyond so many bytes: what a full disk does, at a byte of our choice."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_cannot_be_written_wait_until_they_can(tmp_path, capsys):
    path = tmp_path / "run" / "metrics.jsonl"
    logger = JsonlLogger(path, start_step=0)
    logger.log_metrics({"loss": 1.0}, step=1)
    size = path.stat().st_size
    with full_at(size + 10):  # in the middle of the next line
        for step in (2, 3):
            logger.log_metrics({"loss": 1.0 / step}, step=step)
        assert path.stat().st_size == size  # no half line
    assert capsys.readouterr().out.count("could not write") == 1
    logger.log_metrics({"loss": 0.25}, step=4)
    assert [row["step"] for row in read_jsonl(path)] == [1, 2, 3, 4]


def test_pictures_that_cannot_be_written_are_left_out(tmp_path, make_trainer, capsys):
    grid = SampleGrid(
        lambda rows: torch.zeros(len(rows), 3, 64, 64), tmp_path, rows=4, columns=None,
        patience=Patience(collective_timeout_seconds=5),
    )  # fmt: skip
    module = make_module()
    task = SimpleNamespace(
        step=5, trained=module.trained, product="denoiser", eval=bool, train=bool
    )
    with full_at(10):
        grid(make_trainer(), task)
    assert not list(tmp_path.iterdir())
    assert "Training goes on" in capsys.readouterr().out
    grid(make_trainer(), task)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000005.png"]
