"""A run's record: an entry for each sitting, in its directory and in its checkpoints."""

import time

import pytest
import torch
from omegaconf import OmegaConf

from ldm.apps.record import sitting as module
from ldm.apps.record.code import Code
from ldm.apps.record.environment import environment
from ldm.apps.record.file import RECORD, Typed, read_record
from ldm.apps.record.sitting import Sitting
from ldm.apps.run_directory import sign
from ldm.manifest import read_json

CONFIG = OmegaConf.create({"run": "runs/a", "accelerator": "cpu", "data": {"root": "x"}, "lr": 1.0})
INPUTS = {"latents": {"path": "/x", "fingerprint": "ab"}}


@pytest.fixture
def sit(tmp_path, monkeypatch):
    """One sitting of a run with this code and these versions; its entry."""

    def once(commit="a" * 40, diff="", **versions):
        facts = {"commit": commit, "dirty": bool(diff), "diff_sha256": diff or None}
        here = environment("cpu") | {"packages": {"torch": "2.0", "numpy": "2.0"} | versions}
        monkeypatch.setattr(module, "running_code", lambda: Code(facts, diff))
        monkeypatch.setattr(module, "environment", lambda accelerator: here)
        Sitting(CONFIG, Typed(["lr=1"], None)).write(tmp_path, INPUTS, 7)
        return read_json(tmp_path / RECORD)["sittings"][-1]

    return once


def test_an_entry_says_who_what_and_from_where(sit, tmp_path):
    entry = sit()
    assert entry["overrides"] == ["lr=1"] and entry["step"] == 7 and entry["inputs"] == INPUTS
    assert entry["git"]["commit"] == "a" * 40 and entry["launch_directory"].startswith("/")
    assert entry["command"] and entry["begun"].endswith("+00:00")
    packages = read_record(tmp_path)["packages"][entry["environment"]["packages"]]
    assert packages == {"torch": "2.0", "numpy": "2.0"}


def test_the_same_again_is_silent_and_changes_are_one_line(sit, tmp_path, capsys):
    sit()
    sit()
    assert capsys.readouterr().out == ""
    sit(commit="b" * 40, diff="+x", torch="2.1")
    (said,) = capsys.readouterr().out.splitlines()
    assert "another commit (aaaaaaa -> bbbbbbb with changes)" in said
    assert "versions are others: torch 2.0 -> 2.1" in said
    sit(commit="b" * 40, diff="+y", torch="2.1")
    (said,) = capsys.readouterr().out.splitlines()
    assert "the code was changed, at the same commit (bbbbbbb with changes)" in said
    assert (
        len(read_record(tmp_path)["sittings"]) == 4 and len(read_record(tmp_path)["packages"]) == 2
    )


def test_what_git_did_not_answer_is_not_another_commit(tmp_path):
    known = {"commit": "a" * 40, "diff_sha256": None}
    slow = {"commit": "a" * 40, "why": "git diff: no answer within 1 s"}
    lost = {"commit": None, "why": "git rev-parse: no answer within 1 s"}
    said = [*module._changed_code(known, lost), *module._changed_code(lost, known)]
    assert all("git could not be asked of which commit the code is" in each for each in said)
    assert "(aaaaaaa -> unknown; git rev-parse: no answer within 1 s)" in said[0]
    (said,) = module._changed_code(known, slow)
    assert said == "git could not be asked whether the code was changed, at commit aaaaaaa"
    assert [*module._changed_code(known, known), *module._changed_code(lost, lost)] == []


def test_passwords_of_urls_are_not_kept(tmp_path):
    """But in config.yaml, by which a run goes on."""
    root = "https://me:p@ss@h/x?token=t"
    config = OmegaConf.merge(CONFIG, {"stage": "diffusion", "data": {"root": root}})
    inputs = {"shards": {"path": root, "fingerprint": "ab"}}
    sitting = Sitting(config, Typed([f"data.root={root}"], None))
    sitting.write(tmp_path, inputs, 0)
    sign(tmp_path, config, inputs, {})
    kept = [(tmp_path / name).read_text() for name in (RECORD, "manifest.json")]
    kept.append(str(sitting.for_checkpoints(inputs) | {"git": None}))  # or this file is in it
    for text in kept:
        assert "https://***@h/x?***" in text and "p@ss" not in text and "token=" not in text


def test_each_diff_is_kept_once(sit, tmp_path):
    names = [sit(diff=diff)["git"]["diff"] for diff in ("+x", "+x", "+y", "+x", "")]
    assert names == ["git.diff", "git.diff", "git.3.diff", "git.diff", None]
    assert (tmp_path / "git.3.diff").read_text() == "+y"


def test_a_run_and_its_checkpoints_hold_it(world):
    (entry,) = read_json(world.diffusion / RECORD)["sittings"]
    assert entry["overrides"][0] == "experiment=demo_diffusion" and entry["step"] == 0
    assert entry["inputs"]["latents"]["fingerprint"]
    file = world.diffusion / "checkpoints" / "step_000000004.pt"
    held = torch.load(file, weights_only=True)["record"]
    assert held["config"]["max_steps"] == 4 and held["config"]["run"] == str(world.diffusion)
    assert held["environment"]["packages"]["torch"] and held["overrides"] == entry["overrides"]
    assert held["git"]["commit"] == entry["git"]["commit"] and "diff" in held["git"]


def test_noting_does_not_hold_up_a_start(tmp_path):
    """Git and metadata of all packages, beside which a start goes on anyway."""
    seconds = []
    for number in range(3):
        begun = time.monotonic()
        sitting = Sitting(CONFIG, Typed())
        sitting.for_checkpoints(INPUTS)
        sitting.write(tmp_path / str(number), INPUTS, 0)
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 0.3, seconds
