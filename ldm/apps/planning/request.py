"""What `ldm plan` is asked: its own settings, and the trainings that the other words describe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from ldm.apps.compose import compose
from ldm.apps.config_files import config_roots
from ldm.apps.errors import UserError, suggestion
from ldm.apps.hydra_mistakes import groups_in
from ldm.apps.record.file import Typed
from ldm.apps.schema.commands import settings_of_command
from ldm.apps.stand_ins import with_data
from ldm.apps.taken_up import taken_up

_LISTS = ("gpus", "mfu", "phases")  # a,b,c is written without brackets as well


@dataclass(frozen=True)
class Training:
    """One of the trainings that follow each other."""

    title: str
    experiment: str | None
    config: DictConfig


@dataclass(frozen=True)
class Request:
    """Settings of the command, and the trainings that are planned."""

    settings: DictConfig
    trainings: list[Training]

    def mfu_of(self, number: int) -> float | None:
        """The given utilisation of the number-th training."""
        given = self.settings.mfu
        if given is None or isinstance(given, float | int):
            return given
        return float(given[number])


def request_of(words: Sequence[str], *, config_dir: str | None) -> Request:
    """What the words ask for; UserError for those that fit neither this command nor training."""
    words = [word for i, word in enumerate(words) if not (i == 0 and word == "train")]
    _require_known(words, config_dir)
    known = settings_of_command("plan")
    own = [_listed(word) for word in words if _key(word) in known]
    settings = compose("plan", own, config_dir=config_dir)
    others = Typed([word for word in words if _key(word) not in known], config_dir)
    trainings = list(_trainings(settings, taken_up(others)))
    given = settings.mfu
    if given is not None and not isinstance(given, float | int) and len(given) != len(trainings):
        raise UserError(
            f"mfu={list(given)} has {len(given)} values for {len(trainings)} training(s); give "
            "one value for all, or one each."
        )
    return Request(settings, trainings)


def _trainings(settings: DictConfig, typed: Typed) -> Iterator[Training]:
    words, config_dir = typed
    experiments = [word.partition("=")[2] for word in words if _key(word) == "experiment"]
    names = experiments[0].strip("[]").split(",") if experiments else [None]
    rest = [word for word in words if _key(word) != "experiment"]
    for name in names:
        begun = [f"experiment={name}", *rest] if name else rest
        begun = with_data(begun, config_dir=config_dir)
        for more in _phases(settings):
            config = compose("train", [*begun, *more], config_dir=config_dir)
            title = f"{name or config.stage}: {config.size} px, {config.max_steps:,} steps"
            yield Training(title, name, config)


def _phases(settings: DictConfig) -> Iterator[list[str]]:
    for phase in settings.phases or [None]:
        if phase is None:
            yield []
            continue
        size, _, steps = phase.partition(":")
        yield [f"size={size}", f"max_steps={steps}"]


def _require_known(words: Sequence[str], config_dir: str | None) -> None:
    """UserError for a key of neither command; what training says of its parts is left to it."""
    groups = groups_in(config_roots(config_dir))
    known = {*settings_of_command("plan"), *settings_of_command("train"), *groups}
    for word in words:
        key = _key(word)
        if "=" in word and key.split(".")[0].split("@")[0] not in known:
            raise UserError(
                f"{key!r} is a setting of neither `ldm plan` nor `ldm train`. "
                f"{suggestion(key, known)}"
            )


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _listed(word: str) -> str:
    key, _, value = word.partition("=")
    if key in _LISTS and value and value[0] not in "['\"" and (key != "mfu" or "," in value):
        return word if value == "null" else f"{key}=[{value}]"
    return word
