"""What the machine offers, told with what to type where it is too little."""

from pathlib import Path

import pytest

from ldm.apps import machine
from ldm.apps.machine import Check
from ldm.apps.probe import Probe


def test_gpus_are_listed_with_memory_and_bf16() -> None:
    devices = [
        {"name": "New", "bytes": 80e9, "bf16": True},
        {"name": "Old", "bytes": 16e9, "bf16": False},
    ]
    facts = {"version": "2.11.0", "cuda": "13.0", "cpu": "AVX2", "mps": False, "devices": devices}
    checks = machine.accelerators(Probe(facts))
    assert [check.status for check in checks] == ["ok", "ok", "warn"]
    assert checks[1] == Check("cuda:0", "ok", "New, 80 GB, bf16")
    assert "precision=" in checks[2].remedy


def test_a_driver_that_torch_cannot_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"version": "2.11.0", "cuda": "13.0", "cpu": "AVX2", "mps": False, "devices": []}
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.accelerators(Probe(facts))[-1].status == "ok"
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert machine.accelerators(Probe(facts))[-1].status == "warn"


def test_torch_that_does_not_import_fails() -> None:
    (check,) = machine.accelerators(Probe({}, "ImportError: libtorch"))
    assert check.status == "fail" and "libtorch" in check.detail


@pytest.mark.parametrize("free, status", [(0.5e9, "fail"), (5e9, "warn"), (50e9, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, status: str) -> None:
    usage = type("Usage", (), {"free": free, "total": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    assert machine.disk(tmp_path).status == status


def test_small_shared_memory_names_the_docker_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = type("Usage", (), {"free": 64e6, "total": 64e6})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    (check,) = machine.shared_memory(tmp_path)
    assert check.status == "warn" and "--shm-size" in check.remedy
    assert machine.shared_memory(tmp_path / "absent") == []
