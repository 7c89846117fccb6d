"""The doctor finds what does not fit, survives what crashes, and says what to type."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from ldm.apps import doctor, machine
from ldm.apps.doctor import Check
from ldm.apps.probe import STAGES, Probe, try_libraries


@pytest.mark.parametrize(
    "torch, torchvision, error, status, word",
    [
        ("2.11.0", "0.26.0", "", "ok", "0.26.0"),
        ("2.11.0+cpu", "0.26.0+cpu", "", "ok", "+cpu"),
        ("2.11.0+cu130", "0.26.0", "", "ok", "+cu130"),
        ("2.11.0+cpu", "0.26.0", "", "fail", "builds differ"),
        ("2.11.0", "0.26.0+cpu", "", "fail", "builds differ"),
        ("2.11.0+cu126", "0.26.0+cu130", "", "fail", "builds differ"),
        ("2.11.0", "0.25.0", "", "fail", "goes with torchvision 0.26"),
        ("2.12.1", "0.26.0", "", "fail", "goes with torchvision 0.27"),
        ("2.11.0", "0.26.0", "nms does not exist", "fail", "nms does not exist"),
        ("2.11.0", None, "", "fail", "torchvision is not installed"),
        (None, "0.26.0", "", "fail", "torch is not installed"),
    ],
)
def test_torch_and_torchvision_must_be_a_pair(
    torch: str | None, torchvision: str | None, error: str, status: str, word: str
) -> None:
    check = doctor.torch_pair(torch, torchvision, error)
    assert check.status == status
    assert word in check.detail
    assert (check.remedy != "") is (status == "fail")


@pytest.mark.parametrize("version, status", [((3, 10, 9), "fail"), ((3, 13, 1), "ok")])
def test_python_version(version: tuple[int, ...], status: str) -> None:
    assert doctor.python_version(version).status == status


def test_a_crash_is_a_finding_and_what_follows_is_not_tried() -> None:
    probes = try_libraries(
        {"one": "facts = {'a': 1}", "two": "import os; os.abort()", "three": "facts = {}"}
    )
    assert probes["one"] == Probe({"a": 1})
    assert "killed by signal" in probes["two"].error
    assert not probes["three"].tried and "two failed" in probes["three"].error


def test_an_exception_is_reported_by_its_last_line() -> None:
    probe = try_libraries({"one": "raise RuntimeError('operator nms does not exist')"})["one"]
    assert probe.error == "RuntimeError: operator nms does not exist"


def test_a_hang_ends_at_the_time_limit() -> None:
    code = "import threading; threading.Event().wait()"
    probes = try_libraries({"one": "facts = {}", "two": code}, timeout_seconds=2)
    assert not probes["one"].error
    assert "no answer within 2 s" in probes["two"].error


def test_dependencies_out_of_bounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=2,<3", "rich<1", "no-such-package-here>=1", "absent; extra == 'test'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    check = doctor.requirements()
    assert check.status == "fail"
    assert "rich is" in check.detail and "no-such-package-here is missing" in check.detail
    assert "numpy" not in check.detail and "absent" not in check.detail


def test_not_installed_is_only_a_warning() -> None:
    assert doctor.requirements("no-such-package-here").status == "warn"


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


def test_a_damaged_weights_file_fails_and_absent_ones_do_not(tmp_path: Path) -> None:
    assert doctor.weights(str(tmp_path)).status == "ok"
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"not what it says")
    assert doctor.weights(str(tmp_path)).status == "fail"
    assert doctor.weights(str(tmp_path / "absent")).status == "fail"


def test_report_of_this_very_environment_has_no_failure() -> None:
    checks = doctor.report()
    assert [check for check in checks if check.status == "fail"] == []
    names = {check.name for check in checks}
    assert names >= {"python", "torch + torchvision", "pytorch_lightning", "torch", "cpu", "disk"}
    assert set(STAGES) == {"torch", "torchvision", "pytorch_lightning"}


def test_main_prints_and_returns_one_if_anything_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Check("good", "ok", "[here]"), Check("bad", "fail", "broken", "mend it")
    monkeypatch.setattr(doctor, "report", lambda weights_dir: [good])
    assert doctor.main([]) == 0
    assert "[here]" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "report", lambda weights_dir: [good, bad])
    assert doctor.main(["weights_dir=w"]) == 1
    output = capsys.readouterr().out
    assert "mend it" in output and "Needs mending: bad." in output


def test_main_explains_an_unknown_argument() -> None:
    with pytest.raises(ValueError, match="weights_dir=FOLDER"):
        doctor.main(["weigths_dir=here"])


def test_the_doctor_itself_imports_nothing_heavy() -> None:
    import subprocess

    code = "import sys, ldm.apps.doctor; print({'torch', 'hydra', 'rich'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
