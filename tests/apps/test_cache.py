"""`ldm cache` as it is typed: shapes, limits, several processes, kills, stored features."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data.latents.cache import LatentCache
from ldm.data.lock import alone
from ldm.manifest import read_json


@pytest.fixture(scope="module")
def shards(ldm, tmp_path_factory) -> Path:
    """Pictures of several aspect ratios in two classes, kept whole."""
    root = tmp_path_factory.mktemp("whole")
    generator = np.random.default_rng(0)
    for i in range(36):
        size = [(64, 64), (64, 96), (96, 64), (80, 80)][i % 4]
        folder = root / "pictures" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / f"{i}.png")
    assert ldm("prepare", "data=folder", f"data.path={root / 'pictures'}", "data.size_px=null",
               "data.square=false", "data.held_out_fraction=0.2", "data.captions=class",
               f"out={root / 'shards'}") == 0  # fmt: skip
    return root / "shards"


@pytest.fixture(scope="module")
def words(world, shards) -> list[str]:
    return ["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
            f"data.root={shards}", "size=32", "block=4", "accelerator=cpu"]  # fmt: skip


BUCKETS = ["buckets=true", "bucket_step=8", "max_aspect_ratio=2"]


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_buckets_keep_every_picture_and_are_told(ldm, words, shards, tmp_path, capsys):
    assert ldm(*words, *BUCKETS, f"out={tmp_path}") == 0
    said = capsys.readouterr().out
    assert "all the same" not in said  # of crops, where there is one
    assert "pictures become" in said and "32x32 px: " in said and "40x24 px: " in said
    cache = LatentCache(tmp_path)
    assert (24, 40) in cache.sizes_px and (40, 24) in cache.sizes_px
    total = read_json(shards / "manifest.json")["facts"]["num_samples"]
    assert len(cache) == sum(cache.counts) == total
    assert [(h // 4, w // 4) for h, w in cache.sizes_px] == [shape[1:] for shape in cache.shapes]
    few = tmp_path / "few"  # one bucket for training; not for want of held-out pictures
    assert ldm(*words, *BUCKETS, "min_bucket=10", "max_crop=0.4", f"out={few}") == 0
    assert len(LatentCache(few).counts) == 1 < len(LatentCache(few / "held_out").counts)


def test_the_same_shards_at_another_size(ldm, words, tmp_path):
    assert ldm(*words, f"out={tmp_path / 'small'}") == 0
    assert ldm(*words, "size=64", f"out={tmp_path / 'large'}") == 0
    small, large = LatentCache(tmp_path / "small"), LatentCache(tmp_path / "large")
    assert small.sizes_px == [(32, 32)] and large.sizes_px == [(64, 64)]
    assert len(small) == len(large)


def test_limits_stop_it_before_anything_is_written(world, ldm, words, tmp_path, capsys):
    out = tmp_path / "latents"
    assert ldm(*words, "size=72", f"out={out}") == 2
    assert "pictures are smaller than the shape they would get" in capsys.readouterr().err
    assert ldm(*words, "max_crop=0.1", f"out={out}") == 2
    said = capsys.readouterr().err
    assert "are cut by more than max_crop=0.1" in said and "buckets=true" in said
    assert ldm(*words, *BUCKETS, "bucket_step=6", f"out={out}") == 2
    assert "size=32 is no multiple of bucket_step=6" in capsys.readouterr().err
    assert ldm(*words, "buckets=true", "bucket_step=2", f"out={out}") == 2
    assert "bucket_step=2 is no multiple of 4" in capsys.readouterr().err
    assert ldm(*words, "condition=classes", "text_run=null", "store=features", f"out={out}") == 2
    assert "condition=classes has none" in capsys.readouterr().err
    whole = f"data.root={world.shards}"
    assert ldm(*words, whole, "crops=4", f"out={out}") == 2
    assert "would store the same latents 4 times: every picture" in capsys.readouterr().err
    assert not out.exists()


def test_a_changed_setting_is_refused_with_the_difference(ldm, words, tmp_path, capsys):
    assert ldm(*words, f"out={tmp_path}") == 0
    before = files(tmp_path)
    assert ldm(*words, f"out={tmp_path}") == 0
    assert "is cached already" in capsys.readouterr().out
    assert ldm(*words, "flip=true", f"out={tmp_path}") == 2
    assert "was made with flip=False, now True. Delete" in capsys.readouterr().err
    assert ldm(*words, "max_crop=0.1", f"out={tmp_path}") == 2  # what is there breaks that
    assert "are cut by more than max_crop=0.1" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_a_termination_is_an_interruption(ldm, words, tmp_path, capsys, monkeypatch):
    def terminated(*arguments):
        yield 0
        os.kill(os.getpid(), signal.SIGTERM)
        yield 1

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr("ldm.apps.cache.encoded", terminated)
        assert ldm(*words, f"out={tmp_path}") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert ldm(*words, f"out={tmp_path}") == 0


def test_two_commands_do_not_fill_one_cache(ldm, words, tmp_path, capsys):
    with alone(tmp_path / "lock", ""):
        assert ldm(*words, f"out={tmp_path}") == 2
    assert "is being made by another `ldm cache`; wait for it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert ldm(*words, f"out={tmp_path}") == 0
    assert not (tmp_path / "lock").exists()


def test_a_cache_is_whole_with_its_held_out_part_or_not_at_all(
    world, ldm, words, shards, tmp_path, capsys, monkeypatch
):
    def killed(directory, *arguments, **more):
        raise KeyboardInterrupt

    out = tmp_path / "latents"
    with monkeypatch.context() as patch:
        patch.setattr("ldm.apps.cache.finish", killed)  # after the first part
        assert ldm(*words, f"out={out}") == 130
    assert (out / "layout.json").is_file()  # both have their room
    assert not (out / "manifest.json").exists()
    assert ldm(*words, f"out={out}") == 0
    whole = files(out)
    held_out = read_json(shards / "held_out" / "manifest.json")["facts"]["num_samples"]
    assert read_json(out / "manifest.json")["facts"]["num_held_out"] == held_out
    for name in ("layout.json", "blocks.npy", "lock"):  # of a kill after the manifest
        (out / name).write_text("{}")
    assert ldm(*words, f"out={out}") == 0
    assert files(out) == whole
    shutil.rmtree(out / "held_out")
    capsys.readouterr()
    train = ["train", *world.settings["diffusion"], f"run={tmp_path / 'run'}"]
    assert ldm(*train, f"data.root={out}") == 2
    assert f"held_out is missing, with its {held_out} latents; run" in capsys.readouterr().err
    assert ldm(*words, f"out={out}") == 0
    assert files(out) == whole


@pytest.mark.parametrize(
    "setting",
    ["devices=2", pytest.param("workers=1", marks=pytest.mark.slow)],
)
def test_several_processes_make_the_same_bytes(ldm, words, tmp_path, setting):
    more = [*BUCKETS, "flip=true", "crops=2"]
    assert ldm(*words, *more, f"out={tmp_path / 'one'}") == 0
    assert ldm(*words, *more, setting, f"out={tmp_path / 'two'}") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_an_error_in_one_of_several_processes_is_the_sentence_of_the_command(
    world, ldm, words, tmp_path, capsys
):
    from safetensors.torch import load_file, save_file

    model = tmp_path / "vae"
    model.mkdir()
    for file in (world.autoencoder / "model" / "vae").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    weights = next(model.glob("*.safetensors"))
    state = load_file(weights)
    state["quant_conv.bias"][0] = float("inf")
    save_file(state, weights)
    out = tmp_path / "latents"
    assert ldm(*words, f"autoencoder_run={tmp_path}", "devices=2", f"out={out}") == 2
    assert "is not finite in fp16; the autoencoder diverged" in capsys.readouterr().err
    assert not (out / "manifest.json").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(ldm, words, world, tmp_path):
    drawn = tmp_path / "shards"
    assert ldm("prepare", "data=shapes", "data.num_train=1500", "data.num_held_out=16",
               "data.size_px=32", f"out={drawn}") == 0  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = [*words, f"data.root={drawn}"]
    assert ldm(*words, f"out={whole}") == 0
    codes = []
    for number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "ldm.apps.main", *words, "devices=2", f"out={killed}"],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        state = killed / "blocks.npy"
        before = _done(state)
        while process.poll() is None and _done(state) <= before:
            time.sleep(0.02)
        with suppress(ProcessLookupError):  # on a busy machine it may be done before we look
            if number == 0:  # alone, as a person does it: its children notice
                os.kill(process.pid, signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        codes.append(process.wait())
    assert codes[0] == -signal.SIGKILL
    assert ldm(*words, f"out={killed}") == 0
    assert files(killed) == files(whole)


def _done(state: Path) -> int:
    return int(np.load(state)["done"].sum()) if state.is_file() else 0


def test_training_with_stored_features_is_training_with_ids(world, ldm, words, tmp_path):
    words = [*words, f"data.root={world.shards}", "block=16"]
    assert ldm(*words, "store=features", f"out={tmp_path / 'latents'}") == 0
    features, ids = LatentCache(tmp_path / "latents"), LatentCache(world.latents)
    assert features.has_features and not ids.has_features
    run = tmp_path / "run"
    assert ldm("train", *world.settings["diffusion"], f"data.root={features.root}",
               f"run={run}") == 0  # fmt: skip
    losses = [
        [float(line.split('"train/loss": ')[1].split(",")[0])
         for line in (where / "metrics.jsonl").read_text().splitlines() if "train/loss" in line]
        for where in (run, world.diffusion)
    ]  # fmt: skip
    assert len(losses[0]) == 4
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-3, atol=0)


def test_a_denoiser_trains_on_buckets_with_variants_and_features(
    world, ldm, words, tmp_path, capsys
):
    more = [*BUCKETS, "flip=true", "crops=2", "store=features"]
    assert ldm(*words, *more, f"out={tmp_path / 'latents'}") == 0
    train = ["train", *world.settings["diffusion"], f"run={tmp_path / 'run'}"]
    assert ldm(*train, f"data.root={tmp_path / 'latents'}", "global_batch=4") == 0
    fine = tmp_path / "fine"
    assert ldm(*words, *BUCKETS, "bucket_step=4", "size=36", f"out={fine}") == 0
    capsys.readouterr()
    assert ldm(*train, f"data.root={fine}", "size=36", f"run={tmp_path / 'other'}") == 2
    said = capsys.readouterr().err
    assert "cannot be halved" in said and "a bucket_step that is a multiple of 8" in said


def test_pictures_of_other_channels_are_refused(world, ldm, words, tmp_path, capsys):
    grey = tmp_path / "grey"
    assert ldm("prepare", "data=shapes", "data.num_train=8", "data.num_held_out=4",
               "data.size_px=32", "data.channels=1", f"out={grey}") == 0  # fmt: skip
    capsys.readouterr()
    assert ldm(*words, f"data.root={grey}", f"out={tmp_path / 'latents'}") == 2
    assert "have 1 channel(s), and the autoencoder" in capsys.readouterr().err
