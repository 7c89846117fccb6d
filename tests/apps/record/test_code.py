"""Of which commit the running code is."""

import shutil
import subprocess

import pytest

from ldm.apps.record import code
from ldm.apps.record.code import running_code


@pytest.fixture
def checkout(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, "-C", tmp_path, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout):
    facts, diff = running_code(checkout)
    assert len(facts["commit"]) == 40 and not facts["dirty"] and facts["untracked"] == []
    assert diff == "" and facts["diff_sha256"] is None


def test_changes_are_kept_and_new_files_named(checkout):
    (checkout / "code.py").write_text("two\n")
    (checkout / "new.py").write_text("")
    facts, diff = running_code(checkout)
    assert facts["dirty"] and facts["untracked"] == ["new.py"]
    assert "-one\n+two\n" in diff and "diff_is_cut" not in facts


def test_a_large_diff_is_cut_and_says_so(checkout, monkeypatch):
    monkeypatch.setattr(code, "LARGEST_DIFF", 1000)
    (checkout / "code.py").write_text("x\n" * 100_000)
    facts, diff = running_code(checkout)
    assert len(diff) == 1000 and "1000 bytes" in facts["diff_is_cut"]


def test_no_checkout_and_no_git_are_no_reason_to_stop(tmp_path, checkout, monkeypatch):
    facts, diff = running_code(tmp_path / "elsewhere")
    assert facts["commit"] is None and "no checkout" in facts["why"] and diff == ""
    monkeypatch.setenv("PATH", "")
    facts, _ = running_code(checkout)
    assert facts["commit"] is None and "git" in facts["why"]


@pytest.fixture
def slow_git(monkeypatch, tmp_path):
    """Makes a git that falls asleep over the words of a pattern of the shell's."""

    def make(pattern):
        slow = tmp_path / "bin" / "git"
        slow.parent.mkdir()
        lines = ["#!/bin/sh", f'case "$*" in {pattern}) exec sleep 60;; esac']
        slow.write_text("\n".join([*lines, f'exec {shutil.which("git")} "$@"\n']))
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")

    return make


def test_a_git_that_does_not_answer_is_left(checkout, monkeypatch, slow_git):
    slow_git("*")
    monkeypatch.setattr(code, "_SECONDS", 0.05)
    facts, _ = running_code(checkout)
    assert facts["commit"] is None and "no answer within" in facts["why"]


def test_a_slow_diff_costs_the_diff_alone(checkout, monkeypatch, slow_git):
    slow_git('*"diff HEAD"*')
    monkeypatch.setattr(code, "_SECONDS", 0.5)
    facts, diff = running_code(checkout)
    assert len(facts["commit"]) == 40 and facts["dirty"] is False and diff == ""
    assert facts["why"] == "git diff: no answer within 0.5 s" and "diff_sha256" not in facts
