"""What a run needs of a machine: memory before activations, and room on its disk."""

import re
import shutil

import pytest
import torch

from ldm.apps.compose import compose
from ldm.apps.planning import memory
from ldm.apps.planning.estimate import estimate
from ldm.apps.rules import machine
from ldm.apps.rules.case import Case

WORDS = ["experiment=demo_diffusion", "data.root=DATA"]


def case(*words):
    return Case(compose("train", [*WORDS, *words]))


def lasting(asked):
    """Bytes that a device holds whatever the size of a micro-batch."""
    return sum(size for part, size in asked.footprint.memory.items() if part != "activations")


def test_memory_of_the_machine(monkeypatch):
    assert list(machine.memory(case())) == []
    needed = lasting(case())
    monkeypatch.setattr(machine, "memory_bytes", lambda: needed - 1)
    (said,) = machine.memory(case())
    assert "this machine has" in said and "ema_decay=null" in said
    assert list(machine.memory(case("ema_decay=null"))) == []  # as it says


def test_every_process_of_one_machine_needs_its_own(monkeypatch):
    needed = lasting(case())
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1.5 * needed)
    assert list(machine.memory(case())) == []
    assert len(list(machine.memory(case("devices=2", "strategy=ddp")))) == 1


def test_one_look_serves_all_jobs_that_hold_the_same(monkeypatch):
    looks = []
    monkeypatch.setattr("ldm.apps.planning.estimate._KNOWN", {})
    look = memory.holdings_of
    monkeypatch.setattr(memory, "holdings_of", lambda *parts: looks.append(1) or look(*parts))
    asked = case("lr=1e-3", "run=one")
    first = asked.footprint
    assert asked.config.optimizer.lr == 1e-3
    assert case("lr=2e-3", "drop_rate=0.2", "run=two").footprint == first and len(looks) == 1
    halved = case(
        "run=one", "micro_batch=8"
    ).footprint  # activations alone are those of another batch
    assert halved.memory["activations"] < first.memory["activations"] and len(looks) == 1
    assert (
        case("run=one", "ema_decay=null").footprint.checkpoint < first.checkpoint
        and len(looks) == 2
    )


def test_memory_of_a_gpu(monkeypatch):
    small = type("Properties", (), {"total_memory": 1e6})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: small)
    (said,) = machine.memory(case("trainer=gpu"))
    assert "this one has 1.0 MB" in said and "activation_checkpointing=true" in said
    assert list(machine.memory(case("trainer=cpu"))) == []


def test_gpus_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for accelerator in ("gpu", "auto"):
        words = [f"accelerator={accelerator}", "strategy=ddp"]
        with pytest.raises(ValueError, match=r"devices=4, but torch finds 2 GPU.*set devices=2"):
            machine.gpus(case(*words, "devices=4"))
        machine.gpus(case(*words, "devices=2"))


@pytest.mark.parametrize("words", [[], ["models_every=100"], ["models_every=1", "keep_models=2"]])
def test_room_for_checkpoints(monkeypatch, tmp_path, words):
    asked = case(*words, f"run={tmp_path / 'new' / 'run'}")
    needed = machine.disk_bytes(asked.config, asked.footprint)
    for free, lacks in ((needed, 0), (needed - 1, 1)):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        told = list(machine.disk(asked))
        assert len(told) == lacks
    assert re.search(r"needs about [\d.]+ MB .* fewer keep_checkpoints", told[0])


def test_what_a_run_has_written_needs_no_room_again(monkeypatch, tmp_path):
    asked = case(f"run={tmp_path}")
    there = 1_000_000
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_000000100.pt").write_bytes(bytes(there))
    free = machine.disk_bytes(asked.config, asked.footprint) - there
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert list(machine.disk(asked)) == []
    (said,) = machine.disk(case(f"run={tmp_path}", "resume=never"))
    assert "for checkpoints and models, and" in said


def test_the_disk_is_counted_as_plans_count_it():
    """With what the configuration trains, and not with Adam's usual 16 bytes a parameter."""
    asked, plain = case(), case("ema_decay=null")
    weights = 4 * asked.num_parameters
    assert asked.footprint.checkpoint - plain.footprint.checkpoint == pytest.approx(weights)
    assert asked.footprint.trained == weights < asked.footprint.model
    assert estimate(asked.config, experiment="demo_diffusion").checkpoint_bytes == pytest.approx(
        asked.footprint.checkpoint
    )


def test_what_compiles(monkeypatch):
    assert list(machine.compiler(case("compile=false"))) == []
    lacks = {"no C++ compiler": "Install one: `apt-get install g++`."}
    monkeypatch.setattr(machine, "missing", lambda on_gpu: lacks)
    (said,) = machine.compiler(case("compile=true"))
    assert "there is no C++ compiler. Install one" in said and "compile=false" in said
    assert list(machine.compiler(case("compile=false"))) == []
