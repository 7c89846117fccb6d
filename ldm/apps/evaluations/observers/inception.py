"""The Inception's features of pictures, for FID, KID, precision and recall, Inception score."""

from functools import lru_cache

from ldm import weights
from ldm.apps.evaluations.measure import Block, Setting
from ldm.apps.evaluations.observers.exact import exact
from ldm.features.inception import InceptionFeatures, read_inception
from ldm.features.inception_network import InceptionNetwork
from ldm.metrics.notes import Rows


class InceptionObserver:
    """Notes "features" (B, layer) and, where the layer is the last, "logits" (B, 1008).

    The logits, without the bias, cost next to nothing then, so scores of features and the
    Inception score share their notes.
    """

    name = "inception"

    def __init__(self, features: InceptionFeatures, file: weights.FoundFile) -> None:
        self.features = features
        self.num_features = features.num_features
        self.protocol = features.protocol | file.protocol

    @exact()
    def __call__(self, block: Block) -> Rows:
        features = self.features.to(block.images.device)
        layer = str(self.num_features)
        asked = (layer, "logits_unbiased") if layer == "2048" else (layer,)
        found = features.layers(block.images, *asked)
        names = {layer: "features", "logits_unbiased": "logits"}
        return {names[name]: value.cpu() for name, value in found.items()}


def inception(
    setting: Setting, *, layer: int = 2048, resize: str = "torch_fidelity"
) -> InceptionObserver:
    """The observer of a layer; ValueError for a missing file, or an unknown layer or kernel."""
    file = weights.find(
        "inception_fid", setting.weights_dir, allow_unknown=setting.allow_unknown_weights
    )
    return InceptionObserver(InceptionFeatures(_read(file), layer=layer, resize=resize), file)


@lru_cache(maxsize=1)
def _read(file: weights.FoundFile) -> InceptionNetwork:
    return read_inception(file.path)
