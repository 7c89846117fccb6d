"""The front door: help without heavy imports, and mistakes as sentences."""

import re
import subprocess
import sys

import pytest

import ldm.apps.main as front
from ldm.apps.main import COMMANDS, EXAMPLES, main

HEAVY = "torch", "pytorch_lightning", "open_clip", "torchmetrics", "sklearn"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["sample", "-h"], []])
def test_help_imports_nothing_heavy(words):
    """What is not imported takes no time."""
    script = (
        "import sys\nfrom ldm.apps.main import main\n"
        f"code = main({words})\n"
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "HEAVY [] 0" and lines


def test_the_overview_names_every_command(capsys):
    assert main(["help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"doctor"}))
def test_the_help_of_a_command_shows_purpose_examples_and_settings(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert COMMANDS[command] in said and all(example in said for example in EXAMPLES[command])
    if command not in ("check", "config"):  # which take those of others
        assert "settings, with their defaults" in said
    if command == "train":
        assert "max_steps=..." in said and "unet_demo" in said and "demo_diffusion" in said


def test_an_unknown_command_is_answered_with_a_suggestion(capsys):
    assert main(["trian"]) == 2
    said = capsys.readouterr().err
    assert "'trian' is no command" in said and "'train'" in said
    assert main(["xyz"]) == 2
    assert "evaluate" in capsys.readouterr().err  # nothing close: all of them


@pytest.mark.parametrize(
    "error, code, message",
    [
        (ValueError("too few; do this"), 2, "ldm: too few; do this"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (OSError(28, "No space left on device", "runs/x"), 2, "no space left .*runs/x"),
        (PermissionError(13, "Permission denied", "/x"), 2, "ldm: /x: Permission denied"),
        (RuntimeError("CUDA out of memory. Tried"), 2, "smaller micro_batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "smaller micro_batch"),
    ],
)
def test_known_troubles_are_sentences(monkeypatch, capsys, error, code, message):
    def fail(command, words):
        raise error

    monkeypatch.delenv("LDM_TRACEBACK", raising=False)
    monkeypatch.setattr(front, "_run", fail)
    assert main(["train"]) == code
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "I/O"), AssertionError()])
def test_bugs_are_not_hidden(monkeypatch, error):
    def fail(command, words):
        raise error

    monkeypatch.setattr(front, "_run", fail)
    with pytest.raises(type(error)):
        main(["train"])


def test_check_takes_a_command_or_means_train(capsys):
    assert main(["check", "sample", "model=x", "prompt=a"]) == 0
    assert "`ldm sample`: settings are sound" in capsys.readouterr().out
    assert main(["check", "experiment=demo_diffusion"]) == 0
    assert "stage diffusion: settings are sound" in capsys.readouterr().out
    assert main(["check", "sample", "model=x", "stpes=3"]) == 2
