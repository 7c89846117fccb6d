"""`ldm check data.root=DIR`: what is wrong with shards or latents is named, and the exit code."""

import json
import shutil

import pytest


@pytest.fixture
def shards(world, tmp_path):
    shutil.copytree(world.shards, tmp_path / "shards")
    return tmp_path / "shards"


def damaged(path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_whole_shards_and_latents_pass(world, ldm, capsys):
    assert ldm("check", f"data.root={world.shards}", "decode=true") == 0
    printed = capsys.readouterr().out
    assert "64 samples without a fault (every picture decoded)" in printed
    assert "held_out: 16 samples without a fault" in printed
    assert ldm("check", f"data.root={world.latents}") == 0
    assert "64 latents are there" in capsys.readouterr().out


def test_damage_is_named_by_file_and_key(shards, ldm, capsys):
    tar = shards / "000000.tar"
    rows = json.loads((shards / "index.json").read_text())["shards"][0]
    damaged(tar, 512, b"no png")  # the first picture
    assert ldm("check", f"data.root={shards}") == 1
    assert f"{tar}: other content than its sha256" in capsys.readouterr().out
    assert ldm("check", f"data.root={shards}", "decode=true") == 1
    printed = capsys.readouterr().out
    assert "000000.tar, sample '00000000': not a picture" in printed and "2 faults" in printed
    damaged(shards / "held_out" / "000000.tar", 0, b"another.png" + bytes(20))
    tar.write_bytes(tar.read_bytes()[:-2000])
    assert ldm("check", f"data.root={shards}") == 1
    printed = capsys.readouterr().out
    assert f"{rows['bytes'] - 2000} bytes, and {rows['bytes']} in the index" in printed
    assert f"{tar}: a truncated or damaged tar" in printed
    assert "held_out/000000.tar: " in printed
    tar.unlink()
    assert ldm("check", f"data.root={shards}") == 1
    assert f"{tar}: missing" in capsys.readouterr().out


def test_a_wrong_index_is_named(shards, ldm, capsys):
    damaged(shards / "index.npy", 128, b"\1")
    assert ldm("check", f"data.root={shards}") == 1
    assert "index.npy: missing, or not what index.json records" in capsys.readouterr().out
    (shards / "index.json").unlink()  # as shards of another tool: only the tar files are looked at
    assert ldm("check", f"data.root={shards}", "decode=true") == 0
    assert "64 samples" in capsys.readouterr().out


def test_shards_are_held_against_their_manifest(shards, ldm, capsys):
    path = shards / "manifest.json"
    whole = json.loads(path.read_text())
    for facts, fault in (
        ({"num_samples": 63}, "63 samples, and 64 are here"),
        ({"content": "0" * 16}, "written for shards of other content"),
    ):
        path.write_text(json.dumps(whole | {"facts": whole["facts"] | facts}))
        assert ldm("check", f"data.root={shards}") == 1
        printed = capsys.readouterr().out
        assert f"{path}: " in printed and fault in printed and "1 faults" in printed
    path.write_text("{")
    assert ldm("check", f"data.root={shards}") == 1
    assert "manifest.json is damaged" in capsys.readouterr().out
    path.unlink()
    assert ldm("check", f"data.root={shards}") == 1
    assert f"{path}: missing" in capsys.readouterr().out


def test_members_that_are_elsewhere_are_named(shards, ldm, capsys):
    import numpy as np

    from ldm.data.shards.index import write_index

    index = json.loads((shards / "index.json").read_text())
    rows = np.load(shards / "index.npy")
    rows["txt"][5, 0] += 512
    write_index(shards, index["shards"], [rows])
    assert ldm("check", f"data.root={shards}") == 1
    assert "000000.tar, sample '00000005': not where the index has it" in capsys.readouterr().out


def test_what_is_no_data_is_said(world, ldm, tmp_path, capsys):
    assert ldm("check", f"data.root={tmp_path / 'absent'}") == 2
    assert "is no directory" in capsys.readouterr().err
    assert ldm("check", f"data.root={tmp_path}") == 1
    assert "neither an index nor any *.tar" in capsys.readouterr().out
    assert ldm("check", f"data.root={world.shards}", "decode=maybe") == 2
    capsys.readouterr()
    assert ldm("check", "data.root") == 2
    assert "data.root has no value: type data.root=" in capsys.readouterr().err
    shutil.copytree(world.latents, tmp_path / "latents")
    next((tmp_path / "latents").rglob("codes.npy")).unlink()
    assert ldm("check", f"data.root={tmp_path / 'latents'}") == 1
    assert "codes.npy is missing" in capsys.readouterr().out
