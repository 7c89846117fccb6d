"""How much of a picture survives the autoencoder?"""

from ldm.apps.evaluations.subject import BLOCK, Found, Subject
from ldm.metrics.reconstruction import PeakSignalToNoise, StructuralSimilarity


def reconstruction(subject: Subject) -> Found:
    """PSNR in dB and SSIM of held-out pictures through the posterior's mode."""
    for name, metric in (("psnr", PeakSignalToNoise()), ("ssim", StructuralSimilarity())):
        pairs = zip(subject.real.split(BLOCK), subject.reconstructions.split(BLOCK), strict=True)
        for real, reconstructed in pairs:
            metric.update(real, reconstructed)
        yield name, float(metric.compute()), subject.reconstructed_protocol
