"""Steps that took no effect because a loss or gradient was not finite: said, kept, bounded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer


class SkippedSteps:
    """Says with a logged line that steps before it were skipped, and ends a run that skips on.

    ``dump`` keeps what is needed to repeat a step and gives the file, or None where it keeps no
    more; it is told whether the run ends. Rank 0 asks it for the first of each line. ValueError on
    every rank when the last ``max_in_a_row`` steps were skipped; the weights are those before them.
    """

    def __init__(self, dump: Callable[[int, bool], Path | None], *, max_in_a_row: int) -> None:
        self.dump, self.max_in_a_row = dump, max_in_a_row

    def __call__(self, trainer: Trainer, module: Any, line: dict[str, float]) -> None:
        """Look at what a line says of the steps since the line before."""
        if not line["skipped_steps"]:
            return
        number, in_a_row, age = map(int, module.trained[module.product].skips().tolist())
        first = module.step - age
        said = (
            f"{number} step(s) up to step {module.step} were skipped, the first of them step "
            f"{first}: a loss or gradient was not finite. The weights are as if there were none."
        )
        ends = in_a_row >= self.max_in_a_row
        if trainer.is_global_zero:
            print(said + self._kept(first, ends), flush=True)
        if ends:
            raise ValueError(
                f"the last {in_a_row} steps were all skipped (max_skipped_in_a_row="
                f"{self.max_in_a_row}), for a loss or gradient was not finite. The last checkpoint "
                f"is intact; a dump of step {first}, if it could be kept, is in dumps/ of the run. "
                "Lower lr, lengthen warmup_steps, or use precision=32-true."
            )

    def _kept(self, step: int, ends: bool) -> str:
        try:
            file = self.dump(step, ends)
        except (OSError, ValueError) as error:  # no reason to end a run, on one rank alone
            return f" It could not be kept for a replay: {error}."
        return f" `ldm train replay={file}` shows why." if file else ""
