"""Which pretrained files a command lacks, known without a model, pictures, or a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ldm import weights
from ldm.apps.build import build
from ldm.apps.errors import UserError

if TYPE_CHECKING:
    from ldm.data.shards.reader import ImageShards
    from ldm.text.clip import ClipTowers

_MANY = 10**9


def missing_weights(command: str, config: DictConfig) -> list[str]:
    """A sentence for each pretrained network that a command needs and does not find."""
    found = (*_of_training(command, config), *_of_metrics(command, config))
    return list(dict.fromkeys(found))


def require_none(missing: Sequence[str]) -> None:
    """UserError that names all of them."""
    if missing:
        listed = "".join(f"\n- {sentence}" for sentence in missing)
        raise UserError(f"pretrained files are missing, or not the published ones:{listed}")


def _of_training(command: str, config: DictConfig) -> Iterator[str]:
    """What LPIPS lacks where an autoencoder is to learn by it."""
    if command != "train" or config.stage != "autoencoder":
        return
    if config.perceptual == "lpips" and config.loss.perceptual > 0.0:
        try:
            weights.find("vgg16", config.weights_dir)
        except weights.MissingWeights as error:
            yield str(error)


def _of_metrics(command: str, config: DictConfig) -> Iterator[str]:
    """What each measure lacks, but for what depends on a model or on pictures."""
    if command != "evaluate" and not config.get("evaluate_every"):
        return
    setting: Any = _NoPictures(config)
    for node in (config.get("metrics") or {}).values():
        try:
            build(node)(setting)
        except weights.MissingWeights as error:
            yield str(error)
        except ValueError:  # not known yet, or told by what knows model and pictures
            continue


class _NoPictures:
    """A ``Setting`` of which nothing is known but where the weights lie and how many samples."""

    statistics = None

    def __init__(self, config: DictConfig) -> None:
        settings = config.get("evaluation", config)  # in training they are under a name
        self.weights_dir = config.weights_dir
        self.allow_unknown_weights = bool(settings.get("allow_unknown_weights"))
        self._num_samples = settings.num_samples

    def count(self, pictures: str) -> int:
        from ldm.apps.evaluations.measure import SAMPLES

        return (self._num_samples if pictures == SAMPLES else None) or _MANY

    def captions(self, pictures: str) -> Sequence[str]:
        return ["any caption"]

    def towers(self) -> ClipTowers:
        raise UserError("there is no model yet.")

    def shards(self) -> tuple[ImageShards, ImageShards]:
        raise UserError("there are no pictures yet.")
