"""A study of Optuna in a sqlite file: what was tried, what came of it, what to try next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ldm.apps.errors import UserError
from ldm.apps.sweeps.space import Dimension, Interval
from ldm.manifest import fingerprint

FILE = "study.db"
_NAME = "sweep"
_WORDS = "words"  # of a trial, as typed


class Trial(NamedTuple):
    """A trial, counted from 0, with its varied words."""

    number: int
    words: tuple[str, ...]


class Study:
    """Trials by ask and tell; every answer is in the file before anything is done with it.

    What is suggested for trial n follows from the seed, n, and the trials that have ended: a
    study that was killed goes on as it would have. Numbers from an interval are rounded before they
    are tried, so that what is typed is what is recorded.
    """

    def __init__(self, directory: Path, space: Sequence[Dimension], search: Any, direction: str):
        self._optuna = _optuna()
        self._space, self._search, self._direction = space, search, direction
        directory.mkdir(parents=True, exist_ok=True)
        pruners = self._optuna.pruners
        try:
            self._study = self._optuna.create_study(
                storage=f"sqlite:///{(directory / FILE).resolve()}",
                study_name=_NAME,
                direction=direction,
                load_if_exists=True,
                pruner=pruners.NopPruner()
                if search.pruner == "none"
                else pruners.MedianPruner(
                    n_startup_trials=search.prune_after_trials,
                    n_warmup_steps=search.prune_after_steps,
                ),
            )
        except Exception as error:  # of SQLAlchemy's many kinds
            raise UserError(f"{directory / FILE} cannot be opened as a study: {error}") from error
        if self._study.direction.name.lower() != direction:
            raise UserError(
                f"{directory} holds a search that is to {self._study.direction.name.lower()} its "
                f"objective; to {direction}, choose another sweep_dir=."
            )

    def note(self, key: str, value: Any) -> None:
        """Keep a JSON-able value in the study."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """A value that the study keeps, None where it does not."""
        return self._study.user_attrs.get(key)

    @property
    def kinds(self) -> dict[str, str]:
        """How each setting is drawn, by key; Optuna wants it to stay so."""
        return {
            key: f"{'log ' if getattr(drawn, 'log', False) else ''}{type(drawn).__name__}"
            for key, drawn in self._distributions().items()
        }

    def __len__(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def unfinished(self) -> list[Trial]:
        """Trials that were asked for and never told of."""
        state = self._optuna.trial.TrialState
        while self._study.get_trials(deepcopy=False, states=(state.WAITING,)):
            self._study.ask(self._distributions())  # killed within ask()
        found = self._study.get_trials(deepcopy=False, states=(state.RUNNING,))
        return [Trial(trial.number, tuple(trial.user_attrs[_WORDS])) for trial in found]

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """State and notes of all trials that have ended, in order."""
        trials = self._study.get_trials(deepcopy=False)
        return [(t.state.name.lower(), t.user_attrs) for t in trials if t.state.is_finished()]

    def ask(self) -> Trial:
        """The next trial."""
        suggested = self._suggested(len(self))
        self._study.enqueue_trial(suggested, user_attrs={_WORDS: self._words(suggested)})
        trial = self._study.ask(self._distributions())
        return Trial(trial.number, tuple(trial.user_attrs[_WORDS]))

    def is_hopeless(self, number: int, values: Sequence[tuple[int, float]]) -> bool:
        """Whether the pruner gives up on a trial; ``values`` are those of its objective by step."""
        trial = self._trial(number)
        known = self._study.trials[number].intermediate_values
        if new := [(step, value) for step, value in values if step not in known]:
            for step, value in new:
                trial.report(value, step)
            return bool(trial.should_prune())
        return False

    def tell(self, number: int, value: float | None, state: str, **notes: Any) -> None:
        """How a trial ended: "complete" with its value, "pruned", or "fail"."""
        trial = self._trial(number)
        for key, note in notes.items():
            trial.set_user_attr(key, note)
        states = self._optuna.trial.TrialState
        value = value if state == "complete" else None
        self._study.tell(number, value, state=states[state.upper()])

    def _suggested(self, number: int) -> dict[str, Any]:
        """What the sampler says of a study that has nothing but the trials that have ended."""
        samplers = self._optuna.samplers
        seed = int(fingerprint([self._search.seed, number])[:8], 16)
        sampler = (
            samplers.RandomSampler(seed=seed)
            if self._search.method == "random"
            else samplers.TPESampler(seed=seed, n_startup_trials=self._search.startup_trials)
        )
        aside = self._optuna.create_study(sampler=sampler, direction=self._direction)
        aside.add_trials([t for t in self._study.get_trials() if t.state.is_finished()])
        found = aside.ask(self._distributions()).params
        for dimension in self._space:
            if isinstance(dimension, Interval):
                rounded = float(dimension.word(found[dimension.key]))
                found[dimension.key] = int(rounded) if dimension.whole else rounded
        return dict(found)

    def _words(self, params: Mapping[str, Any]) -> list[str]:
        keys = [dimension.key for dimension in self._space]
        words = [d.word(params[d.key]) if isinstance(d, Interval) else params[d.key]
                 for d in self._space]  # fmt: skip
        return [f"{key}={word}" for key, word in zip(keys, words, strict=True)]

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        found: dict[str, Any] = {}
        for dimension in self._space:
            if not isinstance(dimension, Interval):
                steps = dimension.numbers
                found[dimension.key] = (
                    kinds.CategoricalDistribution(dimension.words)
                    if steps is None
                    else kinds.IntDistribution(steps[0], steps[-1], step=steps.step)
                )
            else:
                kind = kinds.IntDistribution if dimension.whole else kinds.FloatDistribution
                found[dimension.key] = kind(dimension.low, dimension.high, log=dimension.log)
        return found

    def _trial(self, number: int) -> Any:
        """A trial that may have been asked for by an earlier process.

        Optuna gives a number for it, and no public way to the trial itself.
        """
        return self._optuna.trial.Trial(self._study, self._study.trials[number]._trial_id)


def _optuna() -> Any:
    """Optuna, kept quiet; UserError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "a search (sweep=tpe, sweep=random) needs Optuna, which is not installed: "
            "pip install 'optuna>=4.5,<6'. A grid does without."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
