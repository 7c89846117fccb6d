"""Do drawn shapes show the prompted colour, shape, background and size?"""

from ldm.apps.evaluations.subject import Found, Subject
from ldm.metrics.prompt_accuracy import PromptAccuracy
from ldm.worlds.shapes import Shape, judge, parse


def prompt_accuracy(subject: Subject) -> Found:
    """The exact judge's verdict on samples, real pictures and reconstructions."""
    protocol = {"judge": "ldm.worlds.shapes.judge (analytic)"}
    wanted = [parse(prompt) for prompt in subject.prompts]
    shown = [parse(caption) for caption in subject.held_out.first_captions(subject.num_real)]

    def numbers() -> Found:
        metric = PromptAccuracy(judge, Shape._fields)
        metric.update(subject.images, wanted)
        for name, value in metric.compute().items():
            name = name.replace("prompt_accuracy_", "prompt_accuracy.")
            yield name, float(value), subject.generated_protocol | protocol
        for name, images, source in (
            ("real", subject.real, subject.real_protocol),
            ("reconstructed", subject.reconstructions, subject.reconstructed_protocol),
        ):
            metric.reset()
            metric.update(images, shown)
            value = metric.compute()["prompt_accuracy"]
            yield f"prompt_accuracy.{name}", float(value), source | protocol

    return numbers()
