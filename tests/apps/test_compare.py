"""`ldm evaluate compare=[A,B]`: differences of what can be compared, reasons for the rest."""

import shutil

import pytest

from ldm.apps.evaluations.compare import compare
from ldm.apps.main import main
from ldm.manifest import read_json, write_json
from ldm.metrics.protocol import record

BOTH = {"n": 256, "steps": 20, "guidance": 3.0, "reference": "abcd", "model": "one"}


@pytest.fixture
def compared(tmp_path, capsys):
    """Prints two files of records; the lines by the name that each begins with."""

    def run(first, second):
        write_json(tmp_path / "a.json", first)
        write_json(tmp_path / "b.json", second)
        assert main(["evaluate", f"compare=[{tmp_path}/a.json,{tmp_path}/b.json]"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line.split("  ")[0]: " ".join(line.split()) for line in lines}

    return run


def test_equal_protocols_give_a_difference_and_others_their_keys(compared):
    lines = compared(
        {"kid": record(0.5, **BOTH), "clip_score": record(0.31, **BOTH)},
        {"kid": record(0.25, **BOTH), "clip_score": record(0.32, **BOTH | {"n": 9, "steps": 50})},
    )
    assert lines["kid"] == "kid 0.5 0.25 -0.25"
    assert lines["clip_score"] == ("clip_score 0.31 0.32 not comparable: n 256 | 9; steps 20 | 50")
    assert not [name for name in lines if name.startswith("judged")]


def test_models_are_there_to_be_compared(compared):
    other = BOTH | {"model": "two", "samples": "ef"}
    lines = compared({"kid": record(0.5, **BOTH)}, {"kid": record(0.75, **other)})
    assert lines["kid"] == "kid 0.5 0.75 +0.25"
    assert lines["judged (A | B): model one | two; samples none | ef"]


def test_other_versions_are_a_remark(compared):
    old = record(0.5, **BOTH)
    old["protocol"]["versions"]["torch"] = "0.1"
    lines = compared({"kid": old}, {"kid": record(0.5, **BOTH)})
    assert lines["kid"].startswith("kid 0.5 0.5 +0 (by other versions: torch 0.1 | ")


def test_other_numbers_of_samples_are_other_names_in_one_row(compared):
    few, many = record(30.0, **BOTH), record(20.0, **BOTH | {"n": 1024})
    lines = compared({"FID-256": few, "psnr": few}, {"FID-1024": many, "ssim": many, "kid": many})
    assert lines["FID-256 | FID-1024"].endswith("30 20 not comparable: n 256 | 1024")
    assert lines["psnr"].endswith("30 - only in A")
    assert lines["ssim"].endswith("- 20 only in B") and lines["kid"].endswith("only in B")


def test_an_invalid_number_is_compared_with_none(compared):
    lines = compared(
        {"kid": record(0.5, **BOTH, unpublished_weights="net.pth")}, {"kid": record(0.5, **BOTH)}
    )
    assert lines["kid"].startswith("kid 0.5 (not valid) 0.5 not comparable: A is not valid: ")
    assert "net.pth" in lines["kid"]


def test_mistakes_are_told(tmp_path, capsys):
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="no metrics file"):
        compare([tmp_path / "a.json", tmp_path / "a.json"])
    assert main(["evaluate", f"compare=[{tmp_path}/a.json]"]) == 2
    assert "two metrics files" in capsys.readouterr().err
    assert main(["evaluate", f"compare=[{tmp_path}/a.json,{tmp_path}/b.json]", "steps=3"]) == 2
    assert "steps=3" in capsys.readouterr().err
    assert main(["evaluate", f"compare=[{tmp_path}/a.json,{tmp_path}/nowhere.json]"]) == 2


def test_a_tree_that_was_moved_gives_equal_hashes(world, ldm, tmp_path):
    shutil.copytree(world.root, tmp_path / "moved")
    records = []
    for number, root in enumerate((world.root, tmp_path / "moved")):
        out = tmp_path / f"{number}.json"
        words = [
            f"model={root}",
            f"data.root={root}/shards",
            "metrics=[reconstruction,clip_score_own]",
        ]
        more = ["num_samples=16", "steps=1", "accelerator=cpu", f"out={out}"]
        assert ldm("evaluate", *words, *more) == 0
        records.append(read_json(out))
    hashes = [{name: entry["protocol"]["hash"] for name, entry in each.items()} for each in records]
    assert hashes[0] and hashes[0] == hashes[1]
