"""What stands for the data of a training that is only looked at, where none is named yet."""

from collections.abc import Sequence

from omegaconf import OmegaConf

from ldm.apps.compose import draft

DATA = "DATA"


def with_data(words: Sequence[str], *, config_dir: str | None) -> list[str]:
    """The words of a training; with data.root=DATA where neither they nor its files name data."""
    if any(word.partition("=")[0] == "data.root" for word in words):
        return [*words]
    config = draft("train", words, config_dir=config_dir).config
    return [*words, f"data.root={DATA}"] if OmegaConf.is_missing(config.data, "root") else [*words]
