"""TensorBoard's event files."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from ldm.callbacks.loggers.backend import Picture, Run
from ldm.callbacks.rows import Row


class TensorBoard:
    """Event files in RUN/tensorboard, one per sitting.

    Each begins with a mark by which TensorBoard leaves out what earlier ones wrote of later steps.
    """

    rebuilt = False

    def require(self) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError(
                "logger=tensorboard needs a package that is not installed: pip install "
                "'ldm[tensorboard]' (in a checkout: pip install -c constraints.txt -e "
                "'.[tensorboard]'), or leave it out of logger=."
            )

    def open(self, run: Run, held: int | None, rewound_from: int | None) -> str:
        from torch.utils.tensorboard import SummaryWriter

        begins = 0 if held is None else held + 1
        self._writer = SummaryWriter(str(run.directory / "tensorboard"), purge_step=begins)
        facts = json.dumps(dict(run.facts), indent=2)
        self._writer.add_text("run", f"```\n{facts}\n```", begins)
        self._writer.flush()
        self._captioned: set[str] = set()
        return ""

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def show(self, picture: Picture) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(picture.path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(picture.name, pixels, picture.step, dataformats="HWC")
        if picture.captions and picture.name not in self._captioned:  # the same at each step
            self._captioned.add(picture.name)
            listed = "\n".join(f"{i}. {text}" for i, text in enumerate(picture.captions, 1))
            self._writer.add_text(f"{picture.name}/captions", listed, picture.step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
