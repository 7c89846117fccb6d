"""Training by other orders: shapes in turn under a budget of pixels, and shard after shard."""

import pytest
import torch
from safetensors.torch import load_file

from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from tests.apps.test_ddp import compare
from tests.data.drawn import write_shards


@pytest.fixture(scope="module")
def latents(world, ldm, tmp_path_factory):
    """40 latents in buckets of 32x32, 24x40 and 40x24 px, the last smaller than a batch."""
    root = tmp_path_factory.mktemp("buckets")
    sizes = [(32, 32), (40, 24), (40, 24), (32, 32), (32, 32), (24, 40)]
    write_shards(root / "shards", [30, 10], sizes=sizes)
    assert ldm(
        "cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
        f"data.root={root / 'shards'}", f"out={root / 'latents'}", "buckets=true", "bucket_step=8",
    ) == 0  # fmt: skip
    return root / "latents"


def weights(run):
    return load_file(run / "model" / "unet" / "diffusion_pytorch_model.safetensors")


def test_a_budget_of_pixels_changes_nothing_but_the_memory(world, ldm, latents, tmp_path, capsys):
    words = [f"data.root={latents}", "precision=64-true", "max_steps=8", "log_every=1"]
    for name, more in (("whole", []), ("parts", ["max_micro_pixels=4000"])):
        run = tmp_path / name
        assert ldm(*world.train("diffusion", run), *words, *more) == 0
    said = capsys.readouterr().out
    assert "bucket 32x32 px: 20 pictures, 8 x 1 accumulated" in said
    assert "bucket 32x32 px: 20 pictures, 2 x 4 accumulated" in said
    assert "bucket 24x40 px: 14 pictures, 4 x 2 accumulated" in said
    assert "6 pictures of 40x24 px do not fill a global batch of 8" in said
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0.0, atol=1e-6)
    curves = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    for first, second in zip(*curves, strict=True):
        for key in first.keys() - OF_THE_MACHINE:
            assert second[key] == pytest.approx(first[key], rel=1e-4, abs=1e-6), key


@pytest.mark.slow
def test_two_processes_cut_the_steps_of_each_bucket_alike(world, ldm, latents, tmp_path):
    """Gradients travel once a step, however many micro-batches it has."""
    more = (f"data.root={latents}", "max_micro_pixels=3000", "micro_batch=4")
    compare(world, ldm, tmp_path, "diffusion", *more)


@pytest.mark.slow
def test_two_processes_read_shard_after_shard_as_one_does(world, ldm, tmp_path):
    shards = tmp_path / "shards"
    assert ldm("prepare", "data=shapes", "data.num_train=40", "data.num_held_out=2",
               "data.size_px=32", f"out={shards}") == 0  # fmt: skip
    more = (f"data.root={shards}", "data.order=streamed", "data.lanes=2")
    more += ("discriminator.norm=group",)  # and the one block of held-out data is one rank's
    compare(world, ldm, tmp_path, "autoencoder", *more)


def test_a_budget_below_one_picture_is_refused(world, ldm, latents, tmp_path, capsys):
    words = world.train("diffusion", tmp_path / "run", f"data.root={latents}")
    assert ldm(*words, "max_micro_pixels=900") == 2
    assert "max_micro_pixels=900 is less than one picture" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_pictures_shard_after_shard(world, ldm, tmp_path, capsys):
    run = tmp_path / "run"
    words = [*world.train("autoencoder", run), "data.order=streamed"]
    assert ldm(*words, "data.lanes=3") == 2
    assert "data.lanes=3 does not divide global_batch=4" in capsys.readouterr().err
    assert ldm(*words, "data.lanes=2") == 0
    lines = [row for row in read_jsonl(run / "metrics.jsonl") if "train/loss" in row]
    others = read_jsonl(world.autoencoder / "metrics.jsonl")
    assert [row["step"] for row in lines] == [1, 2, 3, 4]
    assert lines[0]["train/loss"] != others[0]["train/loss"]  # other pictures


def test_bad_pictures_are_replaced_and_too_many_stop_the_run(world, ldm, tmp_path, capsys):
    root = write_shards(tmp_path / "shards", [10, 10], sizes=[(32, 32)], damaged=5)
    run = tmp_path / "run"
    words = [*world.train("autoencoder", run), f"data.root={root}"]
    assert ldm(*words, "data.max_bad_fraction=0.001") == 2
    said = capsys.readouterr().err
    assert "x truncated or damaged picture" in said and "data.max_bad_fraction=0.001" in said
    assert ldm(*words, "data.max_bad_fraction=0.5") == 0  # goes on
    rows = read_jsonl(run / "bad_samples.jsonl")
    assert {row["key"] for row in rows} <= {"000004", "000009", "000014", "000019"}
    assert len({row["key"] for row in rows}) == len(rows) > 0
