"""The commands on one CUDA device: `make test-gpu`. What is exact on the CPU is close here."""

import pytest
import torch

from ldm.apps.main import main
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
STAGES = ("text_encoder", "autoencoder", "diffusion")


def losses(run) -> list[float]:
    rows = read_jsonl(run / "metrics.jsonl")
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_resumes_and_keeps_its_average_in_fp32(world, tmp_path, stage, precision):
    run = tmp_path / "run"
    more = ["text_run=" + str(world.text_encoder)] if stage == "autoencoder" else []
    words = world.train(stage, run, "trainer=gpu", f"precision={precision}", *more)
    assert main([*words, "max_steps=2"]) == 0
    assert main(words) == 0  # goes on to step 4, with optimizer and average on the device
    assert len(losses(run)) == 4 and all(torch.tensor(losses(run)).isfinite())
    (newest,) = sorted((run / "checkpoints").glob("*.pt"))[-1:]
    for part in torch.load(newest, weights_only=True)["trained"].values():
        for value in (part["ema"] or {}).values():
            assert value.dtype == torch.float32


@pytest.mark.parametrize("stage", STAGES)
def test_a_gpu_trains_what_the_cpu_trains(world, tmp_path, stage):
    found = []
    for trainer in ("cpu", "gpu"):
        run = tmp_path / trainer
        assert main(world.train(stage, run, f"trainer={trainer}", "precision=32-true")) == 0
        found.append(torch.tensor(losses(run)))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_latents_pictures_and_numbers_come_from_the_gpu(world, tmp_path):
    latents, out = tmp_path / "latents", tmp_path / "metrics.json"
    assert main(["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
                 f"data.root={world.shards}", f"out={latents}",
                 "accelerator=gpu"]) == 0  # fmt: skip
    here, there = (read_json(path / "manifest.json") for path in (world.latents, latents))
    assert there["facts"]["mean"] == pytest.approx(here["facts"]["mean"], abs=1e-2)
    assert main(["evaluate", f"model={world.root}", f"data.root={world.shards}", f"out={out}",
                 "metrics=[reconstruction,clip_score_own,prompt_accuracy]", "num_samples=4",
                 "steps=2", "accelerator=gpu"]) == 0  # fmt: skip
    assert read_json(out)["prompt_accuracy"]["protocol"]["device"] == "cuda"
