"""Limits of the system: open files, quotas of containers, the driver's answer."""

import resource
import subprocess
from pathlib import Path

import pytest

from ldm.apps.diagnoses import limits


@pytest.mark.parametrize(
    "soft, hard, status, said",
    [
        (1024, 1_048_576, "warn", "ulimit -n 65536"),
        (1024, 4096, "warn", "ulimit -n 4096"),
        (65536, 65536, "ok", ""),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", ""),
    ],
)
def test_open_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, status: str, said: str
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    (check,) = limits.open_files()
    assert check.status == status and said in check.remedy


@pytest.mark.parametrize("text, cores", [("150000 100000", "1.5"), ("max 100000", ""), ("", "")])
def test_a_quota_below_the_cores_that_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, cores: str
) -> None:
    monkeypatch.setattr(limits, "usable_cores", lambda: 8)
    (tmp_path / "cpu.max").write_text(text)
    found = limits.quota(tmp_path / "cpu.max")
    assert len(found) == bool(cores)
    if cores:
        assert f"{cores} of the 8 cores" in found[0].detail and "=1" in found[0].remedy
    assert limits.quota(tmp_path / "absent") == []


def test_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.shutil, "which", lambda name: None)
    assert limits.driver() == []
    monkeypatch.setattr(limits.shutil, "which", lambda name: f"/usr/bin/{name}")

    def answers(code: int, out: str) -> None:
        done = subprocess.CompletedProcess([], code, out, "")
        monkeypatch.setattr(limits.subprocess, "run", lambda *words, **more: done)

    answers(0, "570.86\n570.86\n")
    assert limits.driver()[0].detail == "NVIDIA 570.86"
    answers(9, "NVIDIA-SMI has failed")
    (check,) = limits.driver()
    assert check.status == "warn" and "has failed" in check.detail and "--gpus all" in check.remedy
