"""The Frechet distance of generated to held-out pictures, in two feature spaces."""

from ldm import weights
from ldm.apps.evaluations.own_towers import image_features, own_towers
from ldm.apps.evaluations.subject import BLOCK, Found, Subject
from ldm.features.clip_image import ClipImageFeatures
from ldm.features.inception import InceptionFeatures, read_inception
from ldm.metrics.frechet import FrechetDistance, require_enough


def fid(subject: Subject) -> Found:
    """In the Inception's features, from a local weights file; named fid_<n> below 10,000."""
    count = len(subject.prompts)
    name = "fid" if count >= 10_000 else f"fid_{count}"
    network = read_inception(weights.find("inception_fid", subject.weights_dir).path)
    features = InceptionFeatures(network, layer=2048, resize="torch_fidelity")
    return _measure(name, features, subject)


def fd_own(subject: Subject) -> Found:
    """In the features of the model's own image tower."""
    towers = own_towers(subject.model.text_encoder)
    return _measure("fd_own", image_features(towers, normalize=False), subject)


def _measure(name: str, features: InceptionFeatures | ClipImageFeatures, subject: Subject) -> Found:
    for side, count in (("generated", len(subject.prompts)), ("real", subject.num_real)):
        require_enough(side, count, features.num_features)

    def numbers() -> Found:
        metric = FrechetDistance(features.num_features)
        for images in subject.images.split(BLOCK):
            metric.update(features(images), real=False)
        for images in subject.real.split(BLOCK):
            metric.update(features(images), real=True)
        yield name, float(metric.compute()), subject.compared_protocol | features.protocol

    return numbers()
