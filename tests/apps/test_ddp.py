"""Several processes train the model that one trains: weights, averages, logged numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ldm.apps.compose import compose
from ldm.apps.shares import shares_of
from ldm.apps.train import train
from ldm.callbacks.metrics_log import OF_THE_MACHINE, read_jsonl
from ldm.data.batches import train_loader

CHECKOUT = Path(__file__).resolve().parents[2]
STAGES = ("text_encoder", "autoencoder", "diffusion")
STEPS = ("max_steps=10", "checkpoint_every=10")  # the GAN's ramp lies within them
# So young an autoencoder's adaptive weight lies above the usual limit, which would hide it.
UNCLAMPED = {"autoencoder": ("loss.adaptive_limit=1e9",)}
DOUBLE = "precision=64-true"


def on_cpu(processes: int) -> list[str]:
    return ["trainer=ddp", "accelerator=cpu", f"devices={processes}", "precision=32-true"]


def run(words: list[str]) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "ldm.apps.main", *words],
        capture_output=True, text=True, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(run: Path, step: int = 10) -> dict[str, torch.Tensor]:
    """Weights and averages of a run's last checkpoint, in full precision."""
    file = run / "checkpoints" / f"step_{step:09d}.pt"
    saved = torch.load(file, weights_only=True)
    return {
        f"{name}.{part}.{key}": value
        for name, trained in saved["trained"].items()
        for part in ("network", "ema")
        for key, value in (trained[part] or {}).items()
    }


def require_same(one: Path, other: Path) -> None:
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    for name, value in first.items():  # averages are float32, which may round either way
        rtol, atol = (3e-7, 1e-9) if ".ema." in name else (0.0, 1e-9)
        torch.testing.assert_close(second[name], value, rtol=rtol, atol=atol, msg=name)
    rows = [read_jsonl(directory / "metrics.jsonl") for directory in (one, other)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for a, b in zip(*rows, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - OF_THE_MACHINE:
            assert b[key] == pytest.approx(a[key], rel=1e-4, abs=1e-6), key


def compare(world, ldm, tmp_path, stage, *more, processes=2):
    # discriminator and averages on; batches that are powers of two, so that means are exact
    more = (DOUBLE, *STEPS, *UNCLAMPED.get(stage, ()), *more)
    said = run([*world.train(stage, tmp_path / "several", *on_cpu(processes)), *more])
    assert f"{processes} process(es)" in said and said.count("finished at step 10") == 1
    whole = tuple(word for word in more if not word.startswith("micro_batch="))
    assert ldm(*world.train(stage, tmp_path / "one"), *whole) == 0
    require_same(tmp_path / "one", tmp_path / "several")


def test_diffusion_on_two_processes_with_accumulation(world, ldm, tmp_path):
    compare(world, ldm, tmp_path, "diffusion", "micro_batch=2")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_several_processes_are_one(world, ldm, tmp_path, stage, processes):
    compare(world, ldm, tmp_path, stage, processes=processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("discriminator.norm=batch",),
        ("discriminator.norm=group", "micro_batch=1"),
        ("micro_batch=1", "regularizer=vq", "regularizer.num_codes=64",
         "regularizer.restart_rate=0.5"),
    ],
    ids=["batch_norm", "accumulated", "codebook"],
)  # fmt: skip
def test_autoencoder_on_two_processes(world, ldm, tmp_path, more):
    """What depends on the batch is that of the global batch: statistics, weights, dead codes."""
    compare(world, ldm, tmp_path, "autoencoder", *more)


@pytest.mark.parametrize(
    "stage", ["autoencoder", pytest.param("diffusion", marks=pytest.mark.slow)]
)
def test_accumulation_is_the_whole_batch(world, ldm, tmp_path, stage):
    more = (DOUBLE, *STEPS, *UNCLAMPED.get(stage, ()))
    for name, cut in (("one", "micro_batch=null"), ("parts", "micro_batch=2")):
        assert ldm(*world.train(stage, tmp_path / name), *more, cut) == 0
    require_same(tmp_path / "one", tmp_path / "parts")
    weights = [row.get("train/d_weight", 0.0) for row in read_jsonl(tmp_path / "one/metrics.jsonl")]
    assert stage == "diffusion" or max(weights) > 5000.0  # not clamped: 0.5 of 1e4 at most


def test_accumulation_is_refused_where_a_loss_needs_the_whole_batch(world, ldm, tmp_path, capsys):
    assert ldm(*world.train("text_encoder", tmp_path / "run"), "micro_batch=2") == 2
    assert "every picture with every caption" in capsys.readouterr().err


def validated_on(world, stage, run_directory, ldm, processes):
    """What is logged of weights that are the same everywhere: the initial ones, hardly moved.

    Also the sample pictures' bytes.
    """
    words = [
        *world.train(stage, run_directory), "lr=1e-30", "max_steps=1", "validate_every=1",
        "validate_block=6",
    ]  # fmt: skip
    if stage == "text_encoder":  # without batch norm, whose statistics move at any rate
        words += [
            f"text_encoder.vision.{size}" for size in ("layers=1", "width=16", "head_width=8")
        ]
        words.append("+text_encoder.vision.patch_size=8")
    if stage == "diffusion":
        words.append("preview.num=10")
    if processes == 1:
        assert ldm(*words) == 0
    else:
        run([*words, *on_cpu(processes)])
    rows = [row for row in read_jsonl(run_directory / "metrics.jsonl") if "val/" in str(row)]
    return rows, [file.read_bytes() for file in sorted(run_directory.glob("samples/**/*.png"))]


@pytest.mark.slow  # the quick one is tests/apps/test_evaluation.py's, of a denoiser
@pytest.mark.parametrize("stage", STAGES)
def test_validation_and_pictures_are_the_same_to_the_last_digit(world, ldm, tmp_path, stage):
    """Two processes have unequal shares of the blocks of held-out data and of pictures."""
    one, two = (validated_on(world, stage, tmp_path / str(n), ldm, n) for n in (1, 2))
    assert one == two and len(one[0]) == 1


def test_initial_weights_are_the_same_on_every_rank_and_noise_is_not(world, monkeypatch, tmp_path):
    class Enough(Exception):
        pass

    seen = []

    def look(config, assembly, *others):
        shares = shares_of(config, assembly.batches.sizes_px, rank=len(seen))
        batch = next(iter(train_loader(assembly.batches, shares, start_step=0, stop_step=1,
                                       workers=0)))  # fmt: skip
        noised, drawn = assembly.task.denoiser.noised, []
        assembly.task.denoiser.noised = lambda x0, eps, t: drawn.append(eps) or noised(x0, eps, t)
        assembly.task.losses(batch, seed=0, count=8, drop_rate=0.1)
        seen.append((assembly.task.denoiser.state_dict(), batch.index, drawn[0]))
        raise Enough

    monkeypatch.setattr("ldm.apps.train.watch", look)
    for rank in range(2):
        torch.manual_seed(100 + rank)  # whatever happened before
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        words = world.train("diffusion", tmp_path / "run", *on_cpu(2))[1:]
        with pytest.raises(Enough):
            train(compose("train", words))
    (weights, index, noise), (others, other_index, other_noise) = seen
    assert all(torch.equal(others[name], value) for name, value in weights.items())
    assert index.tolist() == [0, 1, 2, 3] and other_index.tolist() == [4, 5, 6, 7]
    assert not any(torch.equal(one, other) for one in noise for other in other_noise)


@pytest.mark.slow
def test_from_two_processes_to_one_in_the_middle(world, ldm, tmp_path):
    """The same command with another number of processes goes on with the same stream."""
    more = (DOUBLE, "learning_rate=constant", *STEPS)
    run([*world.train("diffusion", tmp_path / "run", *on_cpu(2)), *more, "max_steps=5"])
    assert ldm(*world.train("diffusion", tmp_path / "run"), *more) == 0
    assert ldm(*world.train("diffusion", tmp_path / "one"), *more) == 0
    one, mixed = state(tmp_path / "one"), state(tmp_path / "run")
    for name, value in one.items():
        torch.testing.assert_close(mixed[name], value, rtol=0.0, atol=1e-9, msg=name)
