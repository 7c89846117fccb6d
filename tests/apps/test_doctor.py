"""The doctor finds what does not fit, survives what crashes, and says what to type."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ldm.apps import doctor
from ldm.apps.doctor import Asked, understood
from ldm.apps.errors import UserError
from ldm.apps.machine import Check
from ldm.apps.main import main
from ldm.apps.probe import STAGES, Probe


def test_report_of_this_very_environment_has_no_failure(tmp_path: Path) -> None:
    checks = doctor.report(Asked(quick=True, run_dir=str(tmp_path)))
    assert [check for check in checks if check.status == "fail"] == []
    names = {check.name for check in checks}
    assert names >= {"python", "torch + torchvision", "pytorch_lightning", "torch", "cpu", "disk"}
    assert set(STAGES) == {"torch", "torchvision", "pytorch_lightning"}
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    libraries = dict.fromkeys(STAGES, Probe({}, "not tried"))  # the test above does
    monkeypatch.setattr(doctor, "try_libraries", lambda: libraries)
    found = {c.name: c for c in doctor.report(Asked(quick=True, run_dir=str(nowhere)))}
    assert found["disk"].status == "fail" and str(nowhere) in found["disk"].detail


def test_main_prints_writes_and_returns_one_if_anything_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = Check("good", "ok", "[here]"), Check("bad", "fail", "broken", "mend it")
    monkeypatch.setattr(doctor, "report", lambda asked: [good])
    assert doctor.main([]) == 0
    assert "[here]" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "report", lambda asked: [good, bad])
    out = tmp_path / "doctor.json"
    assert doctor.main(["weights_dir=w", f"out={out}"]) == 1
    output = capsys.readouterr().out
    assert "mend it" in output and "Needs mending: bad." in output
    written = json.loads(out.read_text())
    assert written["ready"] is False
    assert written["findings"][1] == {
        "name": "bad", "status": "fail", "detail": "broken", "remedy": "mend it"
    }  # fmt: skip


def test_settings_of_the_command() -> None:
    words = ["run_dir=/x", "data.root=L", "data.workers=3", "images_per_second=40", "network=true"]
    assert understood(words) == Asked(
        run_dir="/x", root="L", workers=3, images_per_second=40.0, network=True
    )


def test_home_is_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    words = ["run_dir=~/x", "data.root=~/l", "weights_dir=~/w", "out=~/d.json"]
    found = understood(words)
    assert found == Asked(run_dir="/h/x", root="/h/l", weights_dir="/h/w", out="/h/d.json")


@pytest.mark.parametrize(
    "word, said",
    [
        ("weigths_dir=here", "'weights_dir'"),
        ("out=", "out= needs a value"),
        ("network=yes", "true or false"),
        ("data.workers=two", "a number of at least 0"),
        ("data.workers=2", "give data.root=DIR"),
        ("images_per_second=0", "give data.root=DIR"),
        ("data.root=x quick=true", "quick=true reads nothing"),
    ],
)
def test_a_mistake_is_a_sentence(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=said):
        understood(word.split())
    assert main(["doctor", *word.split()]) == 2
    assert capsys.readouterr().err.startswith("ldm: ")


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    said = capsys.readouterr().out
    for key in ("run_dir", "data.root", "data.workers", "weights_dir", "network", "quick", "out"):
        assert f"\n  {key}=" in said


def test_the_doctor_itself_imports_nothing_heavy() -> None:
    code = "import sys, ldm.apps.doctor; print({'torch', 'hydra', 'rich'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
