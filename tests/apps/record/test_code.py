"""Of which commit the running code is."""

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


def test_a_git_that_does_not_answer_is_left(checkout, monkeypatch, tmp_path):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(code, "_SECONDS", 0.05)
    facts, _ = running_code(checkout)
    assert facts["commit"] is None and "no answer within" in facts["why"]
