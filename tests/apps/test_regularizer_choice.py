"""Which regulariser is meant."""

import pytest

from ldm.apps.check import check
from ldm.apps.compose import compose
from ldm.apps.errors import UserError

AUTOENCODER = ["experiment=demo_autoencoder", "data.root=DATA"]
OURS = "ldm.autoencoders.regularizers."
KL, PUBLISHED = {"_target_": f"{OURS}KL"}, {"num_codes": 16384, "dim": 4, "restart_rate": 0.0}


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], KL),
        (["regularizer=vq"], {"_target_": f"{OURS}VQ", "num_codes": 512, "dim": 4}),
        (["autoencoder=vq_f8"], {"_target_": f"{OURS}VQ"} | PUBLISHED),
        (["autoencoder=vq_f8", "autoencoder.regularizer.num_codes=256"], {"num_codes": 256}),
        (["autoencoder=vq_f8", "regularizer=kl"], KL),
        (["autoencoder=vq_f8", "regularizer=vq", "regularizer.num_codes=8"], {"num_codes": 8}),
        (["autoencoder=kl_f4", "regularizer=vq"], {"_target_": f"{OURS}VQ", "dim": 3}),
    ],
)
def test_the_regularizer_is_the_one_asked_for_or_the_one_brought(words, expected):
    config = compose("train", [*AUTOENCODER, *words])
    assert config.regularizer == config.autoencoder.regularizer  # the record says it twice, alike
    found = dict(config.regularizer)
    assert found | expected == found
    assert ("num_codes" in found) == found["_target_"].endswith("VQ")  # replaced, not mixed
    assert check("train", [*AUTOENCODER, *words], config_dir=None) == 0


def test_settings_of_a_regularizer_that_is_replaced_are_not_lost_in_silence():
    words = ["autoencoder=vq_f8", "regularizer=vq", "autoencoder.regularizer.num_codes=9"]
    with pytest.raises(UserError, match=r"would be lost.*; regularizer\.num_codes=9 sets it"):
        compose("train", [*AUTOENCODER, *words])
    with pytest.raises(UserError, match=r"Did you mean 'autoencoder\.regularizer\.num_codes'"):
        compose("train", [*AUTOENCODER, "autoencoder=vq_f8", "regularizer.num_codes=9"])
