"""What measures may ask for during training: how many pictures of what, with which captions."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, cycle, islice

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.evaluations.measure import (
    RECONSTRUCTIONS,
    REFERENCE,
    SAMPLES,
    TRAINING,
    NotGiven,
)
from ldm.data.batches import crop
from ldm.data.shards.reader import ImageShards
from ldm.metrics.statistics import Statistics
from ldm.text.clip import ClipTowers


class TrainingSetting:
    """A ``Setting`` of evaluations during training, known before any network is there.

    ``draws`` says whether the stage has samples, with the captions of held-out pictures as prompts
    (or none where it is ``unconditional``). The reference are the first held-out pictures, at most
    as many. ``read_towers`` gives the own towers, UserError where there are none.
    """

    statistics: Statistics | None = None  # the reference is pictures

    def __init__(
        self,
        config: DictConfig,
        shards: ImageShards,
        read_towers: Callable[[], ClipTowers],
        *,
        draws: bool,
        unconditional: bool = False,
    ) -> None:
        number = config.evaluation.num_samples
        self.train, self.held_out = shards, shards.held_out() or shards
        self.weights_dir = config.weights_dir
        self.allow_unknown_weights = config.evaluation.allow_unknown_weights
        self.towers, self._side_px = cache(read_towers), config.size
        self._counts = dict.fromkeys((REFERENCE, RECONSTRUCTIONS), min(number, len(self.held_out)))
        self._captions: dict[str, list[str]] = {
            name: list(self.held_out.first_captions(n)) for name, n in self._counts.items()
        }
        if draws:
            captions = chain(self.held_out.first_captions(), self.train.first_captions())
            prompts = cycle([""] if unconditional else captions)
            self._counts[SAMPLES] = number
            self._captions[SAMPLES] = list(islice(prompts, number))

    def count(self, pictures: str) -> int:
        self._require(pictures)
        return self._counts[pictures]

    def size_px(self, pictures: str) -> tuple[int, int]:
        return self._side_px, self._side_px

    def captions(self, pictures: str) -> Sequence[str]:
        self._require(pictures)
        if not any(self._captions[pictures]):
            raise NotGiven(f"the {pictures} have no captions: leave out metrics that need them.")
        return self._captions[pictures]

    def words(self, pictures: str) -> Sequence[str]:
        """The captions of a set, "" where there is none."""
        return self._captions[pictures]

    def shards(self) -> tuple[ImageShards, ImageShards]:
        return self.train, self.held_out

    def originals(self, rows: Sequence[int]) -> Tensor:
        """Some of the held-out pictures (B, C, H, W) in [-1, 1]."""
        return torch.stack([crop(self.held_out[i].image, self._side_px) for i in rows])

    @property
    def reference(self) -> dict[str, str]:
        """What a record says of the reference beside which pictures these are."""
        return {"part": "training"} if self.held_out is self.train else {}

    def _require(self, pictures: str) -> None:
        if pictures in self._counts:
            return
        what = {
            SAMPLES: "draws no pictures: choose metrics of reconstructions",
            TRAINING: "does not look at all training pictures: leave that to `ldm evaluate`",
        }
        raise NotGiven(f"evaluation during this stage {what[pictures]}.")
