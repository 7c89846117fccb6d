"""What `ldm evaluate` was given: sets of pictures, with captions and towers."""

from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import RECONSTRUCTIONS, REFERENCE, SAMPLES, TRAINING, NotGiven
from ldm.apps.evaluations.own_towers import own_towers
from ldm.apps.evaluations.sets import in_words
from ldm.apps.evaluations.sets.given import GivenSets
from ldm.apps.locate import model_folder, parts_at
from ldm.data.shards.reader import ImageShards
from ldm.interop.condition_encoders import TEXT_ENCODERS, read_condition_encoder
from ldm.text.clip import ClipTowers


class CommandSetting:
    """The ``Setting`` of a configuration.

    Picklable, without what has been loaded. UserError for what was not given, and what to type.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.weights_dir: str = config.weights_dir
        self.allow_unknown_weights: bool = config.allow_unknown_weights
        self.pictures = GivenSets(config)
        self.statistics = self.pictures.statistics
        self._towers: ClipTowers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_towers": None}

    def count(self, pictures: str) -> int:
        return self.pictures[pictures].count

    def size_px(self, pictures: str) -> tuple[int, int]:
        return self.pictures[pictures].size_px

    def captions(self, pictures: str) -> Sequence[str]:
        captions = self.pictures[pictures].captions
        if not any(captions):
            raise NotGiven(
                f"the pictures of the {pictures} have no captions; give prompts=FILE with one line "
                "for each, or leave out the metrics that need them."
            )
        return captions

    def towers(self) -> ClipTowers:
        if self._towers is None:
            path = self.config.text_run or self.config.model
            if self.config.text_run is not None and not Path(path).is_dir():
                raise UserError(f"text_run={path} does not exist; give a run of text_encoder.")
            parts = [] if path is None else parts_at(path, TEXT_ENCODERS)
            encoder = read_condition_encoder(model_folder(path, parts[0])) if parts else None
            whose = "there is no model=" if path is None else f"{path} has none"
            self._towers = own_towers(encoder, whose)
        return self._towers

    def shards(self) -> tuple[ImageShards, ImageShards]:
        return self.pictures.shards

    def check(self, names: Collection[str]) -> None:
        """UserError where pictures that are to be compared have not one size."""
        for name, other in product((SAMPLES, RECONSTRUCTIONS), (REFERENCE, TRAINING)):
            if not {name, other} <= {*names}:
                continue
            expected, found = self.size_px(name), self._size_px(other)
            if found is not None and found != expected:
                key = "reference" if other == REFERENCE else "data.root"
                raise UserError(
                    f"the {name} are {in_words(expected)} (height x width) and the {other} "
                    f"pictures are {in_words(found)}; what compares them would tell the sizes "
                    "apart. Make these anew: ldm prepare data=folder data.path=PICTURES "
                    f"data.size_px={expected[0]} out=SHARDS, then {key}=SHARDS."
                )

    def _size_px(self, pictures: str) -> tuple[int, int] | None:
        """The same of pictures that may be statistics; None where these do not say it."""
        if pictures == REFERENCE and self.statistics is not None:
            return self.statistics.size_px
        return self.size_px(pictures)
