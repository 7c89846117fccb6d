"""A command's settings, files and machine verified before anything is spent."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.missing_weights import missing_weights, require_none
from ldm.apps.rules.case import Case
from ldm.apps.rules.table import lacking, remarks, wrong
from ldm.apps.run_directory import is_first_process


def require_sound(
    command: str,
    config: DictConfig,
    *,
    config_dir: str | None = None,
    words: Sequence[str] = (),
    here: bool = True,
    noted: set[str] | None = None,
) -> None:
    """Print what is hardly meant; UserError with all that would stop a command.

    ``words`` are those that were typed. ``here``: it is to run on this machine. What is in
    ``noted`` was printed before, of other jobs.
    """
    case = Case(config, config_dir, words)
    missing = require_settings(command, case, here=here, noted=noted)
    lacks = list(lacking(command, case, looking=False, here=here))
    if not lacks:
        require_none(missing)
    refuse([*lacks, *missing])


def require_settings(
    command: str, case: Case, *, here: bool = True, noted: set[str] | None = None
) -> list[str]:
    """The same of settings alone, whatever the machine has.

    Gives what pretrained files are missing; UserError names these too, beside what does not fit.
    """
    missing = missing_weights(command, case.config)
    if found := wrong(command, case):
        refuse(list(dict.fromkeys([*found, *missing])))
    noted = set() if noted is None else noted
    if is_first_process():
        for remark in remarks(command, case, here=here):
            if remark not in noted:
                print(f"note: {remark}", flush=True)
            noted.add(remark)
    return missing


def refuse(sentences: Sequence[str]) -> None:
    """UserError with all of the sentences, if there is any."""
    if len(sentences) == 1:
        raise UserError(sentences[0])
    if sentences:
        listed = "".join(f"\n- {sentence}" for sentence in sentences)
        raise UserError(f"{len(sentences)} things do not fit:{listed}")
