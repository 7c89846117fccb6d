"""The compile toolchain: what the trial says, and what is missing for it."""

import pytest

from ldm.apps.diagnoses import compiling
from ldm.apps.diagnoses.compiling import NAME, missing
from ldm.apps.probe import Probe


def test_a_trial_that_works() -> None:
    check = compiling.compiling(Probe({"device": "cpu", "seconds": 7.5}), on_gpu=False)
    assert check.status == "ok" and check.name == NAME and "took 7.5 s" in check.detail


def test_what_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiling.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert [*missing(on_gpu=False)] == ["no C++ compiler", "no headers of Python"]
    check = compiling.compiling(Probe({}, "InvalidCxxCompiler"), on_gpu=False)
    assert check.status == "warn" and "no C++ compiler, no headers" in check.detail
    assert "apt-get install g++" in check.remedy and "python3-dev" in check.remedy
    assert "compile=false" in check.remedy
    assert "no C compiler" in missing(on_gpu=True)


def test_what_nobody_expected_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "missing", lambda on_gpu: {})
    check = compiling.compiling(Probe({}, "BackendCompilerFailed: why"), on_gpu=False)
    assert "BackendCompilerFailed: why" in check.detail and "TORCH_LOGS" in check.remedy
    busy = compiling.compiling(Probe({}, "no answer within 90 s"), on_gpu=False)
    assert busy.status == "warn" and "less busy" in busy.remedy


@pytest.mark.slow
def test_the_trial_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(compiling.tempfile, "tempdir", str(tmp_path))
    found = compiling.tried()
    assert found.error or found.facts["device"] in ("cpu", "cuda")
    assert not list(tmp_path.iterdir())
