"""Fingerprints, atomic files, and manifests that say what is missing."""

import errno
import json
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ldm.manifest import (
    atomic,
    file_hash,
    fingerprint,
    read_json,
    read_manifest,
    remove_leftovers,
    write_json,
    write_manifest,
)

REMEDY = "Run `ldm cache`."


def test_fingerprint_is_of_the_value_not_of_its_spelling() -> None:
    assert fingerprint({"a": 1, "b": {"c": [1, 2], "d": "ü"}}) == fingerprint(
        {"b": {"d": "ü", "c": [1, 2]}, "a": 1}
    )
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    values = [{}, {"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}, [1, 2], [2, 1], "a", True, 1.5]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert len(fingerprint({})) == 16
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2d"  # frozen: it joins runs of long ago


def test_what_is_written_may_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "usual").touch()
    with atomic(tmp_path / "weights") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(tmp_path / "x") == expected


def test_a_crash_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "weights"
    with atomic(file) as temporary:
        assert temporary.parent == file.parent  # the same file system: a rename, not a copy
        temporary.write_text("old")
        assert not file.exists()
    assert file.read_text() == "old"

    def crash() -> None:
        with atomic(file) as temporary:
            temporary.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["weights"]
    with atomic(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "new"


def test_only_a_full_disk_is_blamed_on_what_is_written(tmp_path: Path) -> None:
    def failing(error: OSError) -> str | None:
        with pytest.raises(OSError) as found, atomic(tmp_path / "out"):
            raise error
        return found.value.filename

    assert failing(OSError(errno.ENOSPC, "No space left on device")) == str(tmp_path / "out")
    assert failing(OSError(errno.EIO, "Input/output error")) is None  # of the input, as may be
    assert failing(OSError(errno.ENOSPC, "No space left", "other")) == "other"


def test_a_full_disk_is_one_also_in_the_words_of_safetensors(tmp_path: Path) -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(OSError) as caught, atomic(tmp_path / "weights"):
        raise SafetensorError(said)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "weights"))
    with pytest.raises(SafetensorError, match="shared"), atomic(tmp_path / "weights"):
        raise SafetensorError("tensors are shared")


def test_a_value_that_is_not_json_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, None, "ü"]})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert read_json(tmp_path / "x.json") == {"a": [1, None, "ü"]}


def test_what_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1.5, float("nan")], "b": {"c": float("-inf")}})
    assert read_json(tmp_path / "x.json") == {"a": [1.5, None], "b": {"c": None}}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_damaged_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged.*delete it"):
        read_json(tmp_path / "x.json")


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    written = write_manifest(
        tmp_path,
        kind="latents",
        settings={"size_px": 32},
        inputs={"shards": {"path": "/a", "fingerprint": "f" * 16}},
        facts={"num_samples": 3},
    )
    assert read_manifest(tmp_path, kind="latents") == read_manifest(tmp_path) == written
    assert written.made_by.startswith("ldm ")


def test_the_fingerprint_covers_what_an_artefact_is_and_not_where(tmp_path: Path) -> None:
    def made(**changes: object) -> str:
        arguments = {
            "kind": "latents",
            "settings": {"size_px": 32, "seed": 0},
            "inputs": {"shards": {"path": "/a", "fingerprint": "1"}},
            "facts": {"num_samples": 3},
        } | changes
        return write_manifest(tmp_path, **arguments).fingerprint  # type: ignore[arg-type]

    first = made()
    assert first == made(inputs={"shards": {"path": "/moved", "fingerprint": "1"}})
    assert first == made(settings={"seed": 0, "size_px": 32})
    changed = [
        made(kind="shards"),
        made(settings={"size_px": 64, "seed": 0}),
        made(inputs={"shards": {"path": "/a", "fingerprint": "2"}}),
        made(inputs={"images": {"path": "/a", "fingerprint": "1"}}),
        made(facts={"num_samples": 4}),
    ]
    assert len({first, *changed}) == 6


def test_absent_wrong_and_foreign_manifests_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no latents at .*missing.*Run `ldm cache`"):
        read_manifest(tmp_path, kind="latents", remedy=REMEDY)
    write_manifest(tmp_path, kind="shards", settings={})
    with pytest.raises(ValueError, match=r"'shards'.*'latents' is needed.*Run `ldm cache`"):
        read_manifest(tmp_path, kind="latents", remedy=REMEDY)
    for foreign in ({"name": "something else"}, [1]):
        (tmp_path / "manifest.json").write_text(json.dumps(foreign))
        with pytest.raises(ValueError, match=r"not a manifest of ldm.*Run `ldm cache`"):
            read_manifest(tmp_path, kind="latents", remedy=REMEDY)


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / "a" / "b.tmp", tmp_path / ".hidden", tmp_path / "a" / ".b.c.tmp"]
    left = [tmp_path / "a" / ".b.json.123.tmp", tmp_path / ".model.77.tmp" / "unet" / ".w.77.tmp"]
    for path in (*kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    remove_leftovers(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
    assert not (tmp_path / ".model.77.tmp").exists()
