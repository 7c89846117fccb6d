"""What is noted of pictures and captions in the own towers."""

import pytest
import torch
from torch.nn.functional import normalize

from ldm.apps.errors import UserError
from ldm.apps.evaluations.observers.own import own_image, own_pair
from tests.apps.evaluations.given import Given, block, own_towers


@torch.no_grad()
def test_embeddings_of_pictures_and_captions():
    towers = own_towers()
    setting, images = Given(own=towers), block(2, captions=["a red circle", "a blue square " * 9])
    features = own_image(setting)(images)["features"]
    torch.testing.assert_close(features, towers.model.encode_image(images.images))
    rows = own_pair(setting)(images)
    torch.testing.assert_close(rows["image"], normalize(features, dim=-1))
    ids = towers.tokenize(list(images.captions))
    torch.testing.assert_close(rows["text"], towers.model.encode_text(ids, normalize=True))
    assert rows["truncated"].tolist() == [False, True]
    assert own_image(setting).num_features == 16


def test_protocols_know_the_weights():
    first, second = own_towers(), own_towers()
    with torch.no_grad():
        second.model.text_projection += 1
    setting, other = Given(own=first), Given(own=second)
    assert own_image(setting).protocol == own_image(other).protocol  # of the image tower alone
    assert own_pair(setting).protocol != own_pair(other).protocol
    fewer_heads = own_towers()
    fewer_heads.config["vision_cfg"]["head_width"] = 32  # which the weights do not tell
    for observer in (own_image, own_pair):
        assert observer(Given(own=fewer_heads)).protocol != observer(setting).protocol
    with pytest.raises(UserError, match="no own towers"):
        own_image(Given())
