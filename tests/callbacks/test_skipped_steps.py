"""Skipped steps: what is said, kept and refused when a logged line tells of some."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ldm.callbacks.skipped_steps import SkippedSteps


def look(
    tmp_path: Path, counts: list[float], *, first_rank: bool = True, dumps: bool | None = True
):
    """A look at step 100 with (number, in a row, age of the first); the steps dumped.

    ``dumps`` says whether there is room for one; None is a full disk.
    """
    dumped: list[int] = []

    def dump(step: int, ends: bool) -> Path | None:
        assert ends == (counts[1] >= 5)
        dumped.append(step)
        if dumps is None:
            raise OSError("disk full")
        return tmp_path / f"{step}.json" if dumps else None

    part = SimpleNamespace(skips=lambda: torch.tensor(counts))
    module = SimpleNamespace(step=100, product="denoiser", trained={"denoiser": part})
    trainer = SimpleNamespace(is_global_zero=first_rank)
    SkippedSteps(dump, max_in_a_row=5)(trainer, module, {"skipped_steps": counts[0]})
    return dumped


def test_nothing_is_said_of_nothing(tmp_path, capsys):
    assert look(tmp_path, [0.0, 0.0, 0.0]) == []
    assert capsys.readouterr().out == ""


def test_some_are_said_and_the_first_is_kept(tmp_path, capsys):
    assert look(tmp_path, [3.0, 0.0, 12.0]) == [88]
    said = capsys.readouterr().out
    assert "3 step(s) up to step 100" in said and "step 88" in said
    assert f"`ldm train replay={tmp_path}/88.json`" in said
    look(tmp_path, [3.0, 0.0, 12.0], dumps=False)
    assert "replay" not in capsys.readouterr().out
    look(tmp_path, [3.0, 0.0, 12.0], dumps=None)
    assert "could not be kept for a replay: disk full" in capsys.readouterr().out


def test_only_the_first_rank_speaks(tmp_path, capsys):
    assert look(tmp_path, [3.0, 0.0, 12.0], first_rank=False) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("first_rank", [True, False])
def test_too_many_in_a_row_end_the_run_on_every_rank(tmp_path, first_rank):
    look(tmp_path, [4.0, 4.0, 4.0], first_rank=first_rank)
    with pytest.raises(ValueError, match=r"last 5 steps.*max_skipped_in_a_row=5.*dump of step 95"):
        look(tmp_path, [5.0, 5.0, 5.0], first_rank=first_rank)
