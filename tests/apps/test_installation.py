"""What is installed and does not fit together is found, with what to type."""

import importlib.metadata
from pathlib import Path

import pytest

from ldm.apps import installation


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
    check = installation.torch_pair(torch, torchvision, error)
    assert check.status == status
    assert word in check.detail
    assert (check.remedy != "") is (status == "fail")


@pytest.mark.parametrize("version, status", [((3, 10, 9), "fail"), ((3, 13, 1), "ok")])
def test_python_version(version: tuple[int, ...], status: str) -> None:
    assert installation.python_version(version).status == status


def test_dependencies_out_of_bounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=2,<3", "rich<1", "no-such-package-here>=1", "absent; extra == 'test'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    check = installation.requirements()
    assert check.status == "fail"
    assert "rich is" in check.detail and "no-such-package-here is missing" in check.detail
    assert "numpy" not in check.detail and "absent" not in check.detail


def test_not_installed_is_only_a_warning() -> None:
    assert installation.requirements("no-such-package-here").status == "warn"


def test_a_damaged_weights_file_fails_and_absent_ones_do_not(tmp_path: Path) -> None:
    assert installation.weights(str(tmp_path)).status == "ok"
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"not what it says")
    assert installation.weights(str(tmp_path)).status == "fail"
    assert installation.weights(str(tmp_path / "absent")).status == "fail"
