"""What is noted of pictures in the Inception."""

import pytest
import torch

from ldm.apps.evaluations.observers.inception import inception
from ldm.manifest import fingerprint
from tests.apps.evaluations.given import Given, block, weights_in
from tests.features.random_inception import write_random_inception

FILE = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_random_inception(folder / FILE)
    return weights_in(folder)


def test_features_and_logits_of_every_picture_are_noted_together(setting):
    observer = inception(setting)
    images = block(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = observer(images)
    network = observer.features.network
    assert {k: v.shape for k, v in rows.items()} == {"features": (2, 2048), "logits": (2, 1008)}
    assert observer.num_features == 2048 and observer.name == "inception"
    expected = observer.features(images.images)
    assert torch.equal(rows["features"], expected)
    torch.testing.assert_close(rows["logits"], expected @ network.fc.weight.T)


def test_scores_that_ask_the_same_share_notes_and_all_share_the_network(setting):
    first, second = inception(setting), inception(setting, resize="original")
    assert fingerprint(first.protocol) == fingerprint(second.protocol)
    other = inception(setting, layer=64, resize="clean_fid")
    assert fingerprint(other.protocol) != fingerprint(first.protocol)
    assert first.features.network is other.features.network
    assert {k: v.shape for k, v in other(block(1)).items()} == {"features": (1, 64)}


def test_other_weights_than_the_published_are_refused_or_recorded(setting):
    assert inception(setting).protocol["unpublished_weights"] == FILE
    with pytest.raises(ValueError, match=f"{FILE} is damaged or another file"):
        inception(Given(weights_dir=setting.weights_dir))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{FILE} is missing"):
        inception(Given(weights_dir=str(tmp_path)))
