"""A run that is killed at random moments is, in the end, the run that was not."""

import pytest

from benchmarks.kills import differences, kill_often, train


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["diffusion", "autoencoder"])
def test_six_kills_leave_no_trace(world, tmp_path, stage):
    more = ("max_steps=60", "checkpoint_every=2", "validate_every=30", "log_every=1")
    peace, killed = tmp_path / "peace", tmp_path / "killed"
    assert train(world.train(stage, peace, *more)).wait() == 0
    found = kill_often(world.train(stage, killed, *more), killed, max_steps=60, kills=6, seed=1)
    assert list(differences(peace, killed)) == []
    # One save is under way at most, and the next waits for it.
    assert found.kills == 6 and found.most_steps_lost <= 4
