"""What evaluation during training knows of its pictures, as any ``Setting`` does."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from ldm.apps.errors import UserError
from ldm.apps.evaluations.digits import digits
from ldm.apps.evaluations.measure import SAMPLES
from ldm.apps.stages.training_setting import TrainingSetting
from ldm.data.shards.reader import ImageShards


def test_the_sides_of_pictures_are_asked_for_as_of_any_setting(world):
    config = OmegaConf.create(
        {
            "size": 32,
            "weights_dir": "weights",
            "evaluation": {"num_samples": 4, "allow_unknown_weights": False},
        }
    )
    shards = ImageShards(world.shards)
    setting = TrainingSetting(config, shards, SimpleNamespace, draws=True)
    assert setting.size_px(SAMPLES) == (32, 32)
    assert setting.originals([0, 1]).shape == (2, 3, 32, 32)
    with pytest.raises(UserError, match="reads shards of data=digits"):
        digits(setting)
