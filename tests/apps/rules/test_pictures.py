"""Channels of pictures, through all parts of an autoencoder."""

import pytest

from ldm.apps.check import check
from ldm.apps.errors import UserError

AUTOENCODER = ["experiment=demo_autoencoder", "data.root=DATA"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["autoencoder.image_channels=1"], r"set discriminator\.in_channels=1"),
        (["autoencoder.image_channels=5", "discriminator.in_channels=5"], "say which three"),
        (["perceptual_channels=[0,1,3]"], "three channels of the autoencoder's 3"),
        (["perceptual_channels=[0,1]"], "three channels"),
    ],
)
def test_channels_that_do_not_go_together_are_named_before_any_data(words, said):
    with pytest.raises(UserError, match=said):
        check("train", [*AUTOENCODER, *words], config_dir=None)


@pytest.mark.parametrize(
    "channels, more", [(1, []), (5, ["perceptual_channels=[4,0,2]"]), (5, ["perceptual=none"])]
)
def test_other_channels_than_three(channels, more):
    parts = [f"autoencoder.image_channels={channels}", f"discriminator.in_channels={channels}"]
    assert check("train", [*AUTOENCODER, *parts, *more], config_dir=None) == 0
