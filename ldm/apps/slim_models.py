"""Models that a run leaves on its way: the averaged weights only, ready to be sampled from."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning import Trainer

from ldm.apps.stages.assembly import Assembly
from ldm.apps.whole_directory import whole_directory

STEPS = "step_" + "[0-9]" * 9


class Sign(Protocol):
    """Writes a manifest into a folder."""

    def __call__(self, directory: Path, *, facts: Mapping[str, Any]) -> None: ...


class SlimModels:
    """Writes ``directory/step_000002000/``, a model folder, at every multiple of ``every_steps``.

    The last ``keep`` stay, all where that is None. What training does not change is hard links to
    an earlier model of the run (copies where the disk knows no links), so each costs the trained
    part only; ``sign`` adds its manifest. Rank 0 writes on the main thread, whole or not at all;
    what cannot be written is said, and training goes on.
    """

    def __init__(
        self,
        assembly: Assembly,
        directory: str | Path,
        *,
        every_steps: int,
        keep: int | None,
        sign: Sign,
    ) -> None:
        self.assembly, self.directory, self.sign = assembly, Path(directory), sign
        self.every_steps, self.keep = every_steps, keep

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Write the model of this step, then drop the oldest beyond ``keep``."""
        if module.step % self.every_steps:
            return  # the end of a run has model/
        with module.trained[module.product].exported():  # by all, since each may hold a part
            if trainer.is_global_zero:
                self._write(module.step)

    def _write(self, step: int) -> None:
        out = self.directory / f"step_{step:09d}"
        try:
            earlier = [path for path in sorted(self.directory.glob(STEPS)) if path < out]
            if out.exists():  # a run that was killed came here again
                _delete(out)
            with whole_directory(out) as temporary:
                self.sign(temporary, facts=self._facts(step))
                if earlier:
                    self.assembly.write_trained(temporary)
                    _link_the_rest(earlier[-1], temporary)
                else:
                    self.assembly.write_model(temporary)
            for old in [*earlier, out][: -self.keep] if self.keep else []:
                _delete(old)
        except OSError as error:
            print(
                f"could not write the model {out} ({error.strerror or error}). Training goes on; "
                f"the next is due at step {step + self.every_steps}.",
                flush=True,
            )

    def _facts(self, step: int) -> dict[str, Any]:
        """As the run's own manifest has them: its bill of materials is read from these."""
        learned_by = self.assembly.pretrained
        return {"step": step} | ({"pretrained": dict(learned_by)} if learned_by else {})


def _link_the_rest(earlier: Path, folder: Path) -> None:
    """Whatever of an earlier model is not in ``folder`` yet."""
    for source in (path for path in sorted(earlier.rglob("*")) if path.is_file()):
        link = folder / source.relative_to(earlier)
        if link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, link)
        except OSError:
            shutil.copy2(source, link)


def _delete(model: Path) -> None:
    """Out of sight first, so that no half of it is ever found."""
    hidden = model.with_name(f".{model.name}.{os.getpid()}.tmp")
    model.rename(hidden)
    shutil.rmtree(hidden)
