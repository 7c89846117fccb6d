"""Weights & Biases: one run there for one run here, however many sittings that takes."""

import os
import secrets
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.rows import Row

Mode = Literal["auto", "online", "offline"]

_NOT_ONLINE = ("offline", "disabled", "dryrun")  # of WANDB_MODE
# For wandb to answer, and for what is still to be uploaded at the end; the rest stays in the run.
OPEN_SECONDS, FINISH_SECONDS = 20.0, 20.0


class Wandb:
    """A run of ``project``, drawn over our own step and images_seen, never over wandb's step.

    Its id is ``id``, or else one that stays with the run and its checkpoints. ``mode`` auto is
    WANDB_MODE where that is set, else online where somebody is logged in, else offline. Offline
    nothing goes over the network and all is written to RUN/wandb. Nothing is asked on a terminal.
    """

    rebuilt = False

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        group: str | None,
        name: str | None,
        tags: Sequence[str],
        notes: str | None,
        mode: Mode,
        id: str | None,
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"logger.wandb.mode={mode}: it is one of {', '.join(get_args(Mode))}.")
        self.mode, self.id = mode, id
        self._settings: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "group": group,
            "name": name,
            "tags": list(tags),
            "notes": notes,
        }
        self._given_id = id

    def require(self) -> None:
        if find_spec("wandb") is None:
            raise ValueError(
                "logger=wandb needs a package that is not installed: pip install wandb, or leave "
                "it out of logger=."
            )
        switched = os.environ.get("WANDB_MODE")
        if self.mode == "online" and switched in _NOT_ONLINE:
            raise ValueError(
                f"logger.wandb.mode=online, but WANDB_MODE={switched} is set, which wandb obeys: "
                "unset it (`unset WANDB_MODE`), or leave logger.wandb.mode= out."
            )
        try:
            asks = self._mode() not in _NOT_ONLINE and not _is_logged_in()
        except Exception as error:  # of wandb's own kinds: a key that cannot be one
            raise ValueError(f"wandb: {error}") from error
        if asks:
            raise ValueError(
                "wandb is to be online (logger.wandb.mode or WANDB_MODE), but nobody is logged in: "
                "type `wandb login`, set WANDB_API_KEY, or take logger.wandb.mode=offline and "
                "upload later."
            )

    def open(self, run: Run, held: int | None, rewound_from: int | None) -> str:
        wandb = _imported()
        self.id = self.id or secrets.token_hex(4)
        mode = self._mode()
        self._run = wandb.init(
            **self._settings | {"name": self._settings["name"] or run.directory.resolve().name},
            id=self.id,
            dir=str(run.directory),
            config=dict(run.facts),
            mode=mode,
            resume="allow",
            reinit="create_new",
            allow_val_change=True,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=OPEN_SECONDS,
                finish_timeout=FINISH_SECONDS,
            ),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if rewound_from is not None:
            self._run.log({"step": held, "rewound_from_step": rewound_from})
        if mode == "online":
            return f"wandb: {self._run.url}"
        if mode != "offline":
            return f"wandb: {mode} by WANDB_MODE"
        why = "nobody is logged in, so it writes" if self._is_undecided() else "it writes"
        place = Path(self._run.settings.sync_dir)
        return (
            f"wandb: {why} offline to {place}; upload it later with: wandb sync "
            f"{place.parent}/offline-run-*-{self.id}"
        )

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._run.log(row)  # without wandb's step, which would drop a repeated one

    def show(self, picture: Picture) -> None:
        image = _imported().Image(str(picture.path), caption="\n".join(picture.captions) or None)
        self._run.log({"step": picture.step, picture.name: image})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)

    def state_dict(self) -> dict[str, Any]:
        """The id, once there is one."""
        return {"id": self.id} if self.id else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the run of an earlier sitting, unless another one was asked for."""
        self.id = self._given_id or state.get("id")

    def _is_undecided(self) -> bool:
        return self.mode == "auto" and not os.environ.get("WANDB_MODE")

    def _mode(self) -> Any:
        """What wandb calls its mode."""
        if self._is_undecided():
            return "online" if _is_logged_in() else "offline"
        return os.environ["WANDB_MODE"] if self.mode == "auto" else self.mode


def _is_logged_in() -> bool:
    """Whether wandb finds a key on this machine; neither network nor terminal is used."""
    return bool(_imported().login(prompt=False, verify=False))


def _imported() -> Any:
    """The module, told to keep to itself: it would speak on the terminal, and to its makers."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
