"""Pictures that could not be read in training: counted, named, and bounded."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ldm.callbacks.metrics_log import read_jsonl
from ldm.data.batches import Batch

_FEW = 1000  # pictures: a share of less says nothing


class BadSamples(Callback):
    """Names in ``path`` each picture that a batch had to replace, once; what it holds is kept.

    ValueError with the counts by reason when more than ``max_fraction`` of the pictures read since
    the start were bad; the first thousand are judged as if they were that many.
    """

    def __init__(self, path: str | Path, *, max_fraction: float) -> None:
        self.path, self.max_fraction = Path(path), max_fraction
        self._named = {row["key"] for row in read_jsonl(self.path)}
        self._read = 0
        self._reasons: Counter[str] = Counter()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Batch, index: int
    ) -> None:
        self.see(batch)

    def see(self, batch: Batch) -> None:
        """Take a batch into account."""
        self._read += len(batch.index) + len(batch.bad)
        for bad in batch.bad:
            self._reasons[bad.reason] += 1
            if bad.key not in self._named:
                self._named.add(bad.key)
                self._write({"step": batch.step, "key": bad.key, "reason": bad.reason})
        found = self._reasons.total()
        if batch.bad and found > self.max_fraction * max(self._read, _FEW):
            reasons = ", ".join(f"{n} x {reason}" for reason, n in self._reasons.most_common(3))
            raise ValueError(
                f"{found} of {self._read} pictures read could not be used ({reasons}), which is "
                f"more than data.max_bad_fraction={self.max_fraction:g}. They are named in "
                f"{self.path}; mend or remove them, or allow more."
            )

    def _write(self, row: dict[str, Any]) -> None:
        if not self._named - {row["key"]}:
            print(f"a picture cannot be used and is replaced; such are named in {self.path}")
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"could not write {self.path} ({error.strerror}): {row}", flush=True)
