"""Bad pictures in training: named once, counted, and too many of them stop the run."""

import pytest
import torch

from ldm.callbacks.bad_samples import BadSamples
from ldm.callbacks.metrics_log import read_jsonl
from ldm.data.batches import ImageBatch
from ldm.data.source import Bad


def batch(step, size, *bad):
    nothing = torch.empty(size, 0)
    return ImageBatch(step, torch.arange(size), nothing, nothing, bad=bad)


def test_each_is_named_once_also_by_a_resumed_run(tmp_path, capsys):
    path = tmp_path / "bad_samples.jsonl"
    a, b = Bad("a", "empty file"), Bad("b", "too many pixels")
    log = BadSamples(path, max_fraction=0.01)
    log.see(batch(0, 100))
    assert not path.exists()
    log.see(batch(1, 100, a))
    log.see(batch(2, 100, a, b))
    assert capsys.readouterr().out.count("named in") == 1
    again = BadSamples(path, max_fraction=0.01)
    again.see(batch(3, 100, b))
    assert read_jsonl(path) == [
        {"step": 1, "key": "a", "reason": "empty file"},
        {"step": 2, "key": "b", "reason": "too many pixels"},
    ]
    assert capsys.readouterr().out == ""


def test_more_than_the_allowed_share_stops_with_the_counts(tmp_path):
    log = BadSamples(tmp_path / "bad", max_fraction=0.01)
    for step in range(10):  # the first thousand count as a thousand: ten are allowed
        log.see(batch(step, 10, Bad(f"{step}", "empty file")))
    with pytest.raises(ValueError, match="11 of 121 .*10 x empty file, 1 x late.*_fraction=0.01"):
        log.see(batch(10, 10, Bad("x", "late")))
    log = BadSamples(tmp_path / "bad", max_fraction=0.01)
    log.see(batch(0, 5000, *(Bad(str(i), "empty file") for i in range(50))))
    with pytest.raises(ValueError, match="51 of 5052"):
        log.see(batch(0, 1, Bad("y", "empty file")))


def test_none_may_be_allowed(tmp_path):
    log = BadSamples(tmp_path / "bad", max_fraction=0.0)
    log.see(batch(0, 100))
    with pytest.raises(ValueError, match="1 of 201 pictures"):
        log.see(batch(1, 100, Bad("a", "empty file")))
