"""Whole measures against torch-fidelity: same pictures, same random Inception file."""

import pytest
import torch

from ldm.apps.evaluations.frechet import fid
from ldm.apps.evaluations.inception_score import inception_score
from ldm.apps.evaluations.kernel_distance import kid
from ldm.apps.evaluations.measure import REFERENCE, SAMPLES
from ldm.apps.evaluations.precision_recall import precision_recall
from ldm.features.quantise import to_uint8
from tests.apps.evaluations.given import block, weights_in
from tests.features.random_inception import write_random_inception

COUNT = 70
KEYS = {
    f"FID-{COUNT}": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "inception_score": "inception_score_mean",
    "inception_score_std": "inception_score_std",
    "precision": "precision",
    "recall": "recall",
}


class Pictures(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = to_uint8(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.slow
def test_the_numbers_are_torch_fidelitys(tmp_path):
    from torch_fidelity import calculate_metrics

    file = write_random_inception(tmp_path / "weights-inception-2015-12-05-6726825d.pth")
    setting = weights_in(tmp_path)
    smooth = {
        name: torch.nn.functional.avg_pool2d(block(COUNT, seed=seed).images, 3, 1, 1) * contrast
        for name, seed, contrast in ((SAMPLES, 0, 1.5), (REFERENCE, 1, 1.8))
    }
    setting.blocks = {
        name: [block(35)._replace(images=some) for some in images.split(35)]
        for name, images in smooth.items()
    }
    theirs = calculate_metrics(
        input1=Pictures(smooth[SAMPLES]),
        input2=Pictures(smooth[REFERENCE]),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(file),
        feature_layer_fid="64",
        fid=True, kid=True, isc=True, prc=True,
        kid_subsets=10, kid_subset_size=50, batch_size=35,
        cuda=False, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    last = {"layer": 2048, "resize": "torch_fidelity"}
    measures = (
        fid(setting, layer=64, resize="torch_fidelity"),
        kid(setting, **last, subsets=10, subset_size=50),
        inception_score(setting, resize="torch_fidelity", splits=10),
        precision_recall(setting, **last, neighbours=3),
    )
    ours = {n.name: n.value for measure in measures for n in measure.numbers(setting)}
    ours[f"FID-{COUNT}"] = ours.pop(f"fd_inception_64-{COUNT}")
    for name, key in KEYS.items():
        # Theirs is in float32, which their small deviation of kernels around 1 is at the edge of.
        relative = 1e-2 if name == "kid_std" else 1e-4
        assert ours[name] == pytest.approx(theirs[key], rel=relative, abs=0.0), name
    assert ours["kid"] > 0 and ours["inception_score"] > 1
