"""The Frechet Inception distance (Heusel et al. 2017), from a local weights file."""

from ldm.apps.evaluations.subject import BLOCK, Found, Subject
from ldm.features.inception import pretrained_inception
from ldm.metrics.frechet import FrechetDistance


def fid(subject: Subject) -> Found:
    """FID of the generated against all held-out pictures; named FID-<n> below 10,000."""
    features = pretrained_inception(subject.weights_dir)
    metric = FrechetDistance(features, features.num_features)
    for images in subject.images.split(BLOCK):
        metric.update(images, real=False)
    for images in subject.real.split(BLOCK):
        metric.update(images, real=True)
    count = len(subject.images)
    name = "fid" if count >= 10_000 else f"fid_{count}"
    yield name, float(metric.compute()), subject.compared_protocol | features.protocol
