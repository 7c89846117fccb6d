"""Do drawn shapes show the prompted colour, shape, background and size?"""

from ldm.apps.evaluations.subject import Found, Subject
from ldm.metrics.prompt_accuracy import PromptAccuracy
from ldm.worlds.shapes import Shape, judge, parse


def prompt_accuracy(subject: Subject) -> Found:
    """The exact judge's verdict on samples, real pictures and reconstructions."""
    protocol = {"judge": "ldm.worlds.shapes.judge (analytic)"}
    metric = PromptAccuracy(judge, Shape._fields)
    for images, prompts in subject.blocks():
        metric.update(images, [parse(prompt) for prompt in prompts])
    for name, value in metric.compute().items():
        name = name.replace("prompt_accuracy_", "prompt_accuracy.")
        yield name, float(value), subject.generated_protocol | protocol
    expected = [parse(caption) for caption in subject.held_out.captions[: len(subject.real)]]
    for name, images, source in (
        ("real", subject.real, subject.real_protocol),
        ("reconstructed", subject.reconstructions, subject.reconstructed_protocol),
    ):
        metric.reset()
        metric.update(images, expected)
        value = metric.compute()["prompt_accuracy"]
        yield f"prompt_accuracy.{name}", float(value), source | protocol
