"""fp16 with a loss scale of our own: trains on the CPU too, and resumes to the last bit."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from ldm.callbacks.metrics_log import read_jsonl


def last_state(run):
    return torch.load(max((run / "checkpoints").glob("*.pt")), weights_only=True)


@pytest.mark.parametrize(
    "stage", ["diffusion", pytest.param("autoencoder", marks=pytest.mark.slow)]
)
def test_it_finds_its_scale_and_goes_on_where_it_stopped(world, ldm, tmp_path, stage):
    more = ["precision=16-mixed", "learning_rate=constant", "log_every=1", "checkpoint_every=3"]
    for name, lengths in (("straight", [24]), ("resumed", [3, 9, 24])):
        for steps in lengths:
            words = world.train(stage, tmp_path / name, *more, "validate_every=99")
            assert ldm(*words, f"max_steps={steps}") == 0
    straight, resumed = (last_state(tmp_path / name) for name in ("straight", "resumed"))
    assert straight.pop("record") != resumed.pop("record")  # of one sitting and of three
    for one, other in zip(*map(tree_leaves, (straight, resumed)), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    lines = [r for r in read_jsonl(tmp_path / "straight" / "metrics.jsonl") if "loss_scale" in r]
    scales = [line["loss_scale"] for line in lines]
    assert sum(line["skipped_steps"] for line in lines) == 0  # to find it is no failure
    assert scales == sorted(scales, reverse=True) and scales[-1] == scales[-2] > 1.0
    trained = straight["trained"]["denoiser" if stage == "diffusion" else "autoencoder"]
    assert all(v.dtype == torch.float32 for v in trained["network"].values())
    assert all(bool(v.isfinite().all()) for v in trained["network"].values())
