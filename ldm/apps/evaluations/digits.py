"""Can the generated digits be read, and are they as varied as people's?"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import SAMPLES, Block, Measure, Noted, Number, Setting
from ldm.data.batches import crop
from ldm.data.shards.reader import ImageShards
from ldm.data.sources.digits import parse
from ldm.metrics.notes import Rows, rows_of


class GreyAreas:
    """Notes each picture as 8 x 8 areas of grey."""

    name = "grey_areas"

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px
        self.protocol: dict[str, Any] = {"areas": f"{size_px} x {size_px}, mean of channels"}

    def __call__(self, block: Block) -> Rows:
        from ldm.metrics.class_spread import areas

        return {"areas": areas(block.images, self._size_px)}


def digits(setting: Setting) -> Measure:
    """Accuracy by a classifier of real scans, and the within-class spread over the real one."""
    from ldm.metrics.class_spread import ClassSpread
    from ldm.metrics.digit_accuracy import SCAN_PX, DigitAccuracy, DigitClassifier, as_scans

    shards, held_out_shards = setting.shards()
    size_px = setting.size_px(SAMPLES)[0]
    train, train_digits = _areas(shards, size_px)
    held_out, held_out_digits = _areas(held_out_shards, size_px)
    wanted = [parse(prompt) for prompt in setting.captions(SAMPLES)]
    classifier = DigitClassifier(
        as_scans(train),
        train_digits,
        held_out_scans=as_scans(held_out),
        held_out_digits=held_out_digits,
    )
    source, observer = shards.manifest.fingerprint, GreyAreas(SCAN_PX)
    judge = {"judge": "scikit-learn SVC on real scans, 8 x 8", "judge_trained_on": source}
    known = judge | {"judge_held_out_accuracy": classifier.held_out_accuracy}
    scans = {"pictures": held_out_shards.manifest.fingerprint, "n": len(held_out_digits)}
    reference = {"reference": source, "n_real": len(train)}

    def numbers(noted: Noted) -> Iterator[Number]:
        made = rows_of(noted(SAMPLES, observer), "areas")
        accuracy = alone(DigitAccuracy(classifier))
        accuracy.update(as_scans(made), wanted)
        protocol = noted.protocol(SAMPLES)
        yield Number("digit_accuracy", float(accuracy.compute()), protocol | known)
        held_out_accuracy = classifier.held_out_accuracy
        yield Number("digit_accuracy.judge_on_real", held_out_accuracy, scans | judge)
        spread = alone(ClassSpread(num_classes=10))
        spread.update(made, wanted, real=False)
        spread.update(train, train_digits, real=True)
        yield Number("digit_spread", float(spread.compute()), protocol | reference)

    return Measure({SAMPLES: [observer]}, numbers)


def _areas(shards: ImageShards, size_px: int) -> tuple[Tensor, list[int]]:
    """Real pictures (N, 8, 8) as generated ones are noted, and their digits."""
    from ldm.metrics.class_spread import areas
    from ldm.metrics.digit_accuracy import SCAN_PX

    metas = [shards.meta(i) for i in range(len(shards))]
    if any("digit" not in meta for meta in metas):
        raise UserError(f"metric digits reads shards of data=digits; {shards.root} holds others.")
    pictures = (crop(shards[i].image, size_px)[None] for i in range(len(shards)))
    return torch.cat([areas(p, SCAN_PX) for p in pictures]), [int(m["digit"]) for m in metas]
