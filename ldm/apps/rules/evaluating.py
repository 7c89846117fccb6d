"""`ldm evaluate`, and evaluation during training: what is judged, by what, and where to."""

from collections.abc import Iterator
from pathlib import Path

from ldm.apps.locate import model_at_step, model_folder, parts_at
from ldm.apps.rules.case import Case
from ldm.data.remote import is_url

_DRAWING = (
    "steps", "guidance", "guidance_rescale", "guidance_interval", "sampler", "spacing", "negative",
    "sizes", "negative_sizes",
)  # fmt: skip


def metrics(case: Case) -> Iterator[str]:
    """Some metric."""
    if not case.config.get("metrics"):
        yield "metrics=[] measures nothing; name some, such as metrics=[fd_own]."


def out(case: Case) -> Iterator[str]:
    """A file for the numbers."""
    if Path(case.config.out).is_dir() or not Path(case.config.out).name:
        yield (f"out={case.config.out} is a directory; name a file, such as metrics.json in it.")


def something_to_judge(case: Case) -> Iterator[str]:
    """A model, pictures, or a reference to be made a file of."""
    config = case.config
    given = (config.model, config.samples, config.reference, config.data.root)
    if all(place is None for place in given):
        yield (
            "there is nothing to judge: give model=RUN, which makes pictures, or samples=DIR. To "
            "make a file of statistics, give reference=DIR and out=FILE.safetensors."
        )


def nothing_to_draw(case: Case) -> Iterator[str]:
    """Settings of drawing beside pictures that are there already."""
    config = case.config
    given = [f"{key}=" for key in _DRAWING if key in case.typed]
    if given and config.model is None and config.samples is not None:
        yield (
            f"{', '.join(given)}: these say how model= makes pictures, and those of "
            f"samples={config.samples} are made. Leave them out, or give model=RUN too."
        )


def model(case: Case) -> None:
    """The model that draws, or an autoencoder alone."""
    config = case.config
    if config.checkpoint is not None:
        model_at_step(config.model, config.checkpoint)  # says which there are
    elif config.model is not None and not parts_at(config.model, ("unet", "vae")):
        model_folder(config.model, "unet")  # says what is not there


def sets(case: Case) -> None:
    """Pictures and captions that the metrics ask for; the command looks at them as it begins."""
    from ldm.apps.evaluate import asked

    asked(case.config)  # says what lacks


def during_training(case: Case) -> Iterator[str]:
    """What metrics ask for during training; the stage looks at them as it begins."""
    import importlib

    from ldm.apps.missing_weights import missing_weights

    config = case.config
    if config.get("evaluate_every") is None or not (
        (case.root / "manifest.json").is_file() or is_url(str(config.data.root))
    ):
        return
    if missing_weights("train", config):
        return  # files that are missing are told by themselves
    from ldm.apps.stages.evaluated import measures

    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    for _ in measures(config, stage.evaluation_setting(config)):
        yield from ()  # each says what lacks
