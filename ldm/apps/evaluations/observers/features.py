"""An observer of one row of features for each picture."""

from typing import Any

from ldm.apps.evaluations.measure import Block
from ldm.apps.evaluations.observers.exact import exact
from ldm.features.clip_image import ClipImageFeatures
from ldm.features.prepared import PreparedFeatures
from ldm.metrics.notes import Rows

Features = ClipImageFeatures | PreparedFeatures


class FeaturesObserver:
    """Notes "features" (B, num_features); ``more`` is what a record must say beside the network."""

    def __init__(self, name: str, features: Features, more: dict[str, Any] | None = None) -> None:
        self.name, self.features = name, features
        self.num_features = features.num_features
        self.protocol = features.protocol | (more or {})

    @exact()
    def __call__(self, block: Block) -> Rows:
        return {"features": self.features.to(block.images.device)(block.images).cpu()}
