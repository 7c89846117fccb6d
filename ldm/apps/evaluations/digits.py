"""Can the generated digits be read, and are they as varied as people's?"""

import torch
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.evaluations.subject import Found, Subject
from ldm.data.batches import crop
from ldm.data.shards.reader import ImageShards
from ldm.data.sources.digits import parse
from ldm.metrics.class_spread import ClassSpread
from ldm.metrics.digit_accuracy import DigitAccuracy, DigitClassifier, as_scans


def digits(subject: Subject) -> Found:
    """Accuracy by a classifier of real scans, and the within-class spread over the real one."""
    size_px = subject.model.size_px
    train, train_digits = _scans(subject.train, size_px)
    held_out, held_out_digits = _scans(subject.held_out, size_px)
    classifier = DigitClassifier(
        as_scans(train),
        train_digits,
        held_out_scans=as_scans(held_out),
        held_out_digits=held_out_digits,
    )
    held_out_accuracy = classifier.held_out_accuracy
    wanted = [parse(prompt) for prompt in subject.prompts]
    source = subject.train.manifest.fingerprint
    judge = {"judge": "scikit-learn SVC on real scans, 8 x 8", "judge_trained_on": source}
    known = judge | {"judge_held_out_accuracy": held_out_accuracy}
    scans = {"pictures": subject.held_out.manifest.fingerprint, "n": len(held_out_digits)}
    reference = {"reference": source, "n_real": len(train)}

    def numbers() -> Found:
        accuracy = DigitAccuracy(classifier)
        accuracy.update(subject.images, wanted)
        yield "digit_accuracy", float(accuracy.compute()), subject.generated_protocol | known
        yield "digit_accuracy.judge_on_real", held_out_accuracy, scans | judge
        spread = ClassSpread(num_classes=10)
        spread.update(subject.images, wanted, real=False)
        spread.update(train, train_digits, real=True)
        yield "digit_spread", float(spread.compute()), subject.generated_protocol | reference

    return numbers()


def _scans(shards: ImageShards, size_px: int) -> tuple[Tensor, list[int]]:
    metas = [shards.meta(i) for i in range(len(shards))]
    if any("digit" not in meta for meta in metas):
        raise UserError(f"metric digits reads shards of data=digits; {shards.root} holds others.")
    images = torch.stack([crop(shards[i].image, size_px) for i in range(len(shards))])
    return images, [int(meta["digit"]) for meta in metas]
