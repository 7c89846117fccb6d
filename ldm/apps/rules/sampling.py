"""`ldm sample`: what is asked for, against itself and against the model's configuration files."""

from collections.abc import Iterator
from pathlib import Path

from ldm.apps.locate import model_folder
from ldm.apps.rules.case import Case

_PARTS = ("unet", "vae", "scheduler")


def request(case: Case) -> None:
    """Prompts, pictures to begin from, and the way from one to another."""
    from ldm.apps.sample import asked

    asked(case.config)  # says what does not go together


def model(case: Case) -> None:
    """The model that draws."""
    model_folder(case.config.model, "unet")  # says what is not there


def size(case: Case) -> Iterator[str]:
    """Pictures that the networks can halve to their depth."""
    from ldm.apps.sample_folder import size_of
    from ldm.interop.diffusers_autoencoder import empty_autoencoder
    from ldm.interop.diffusers_files import CONFIG, read

    folder, asked = _folder(case), size_of(case.config)
    if folder is None or asked is None:
        return
    levels = len(read(folder / "unet" / CONFIG)["block_out_channels"])
    side = empty_autoencoder(folder / "vae").stride * 2 ** (levels - 1)
    if any(pixels % side for pixels in asked):
        fitting = [max(round(pixels / side), 1) * side for pixels in asked]
        yield (
            f"this model makes pictures whose height and width are multiples of {side} px; found "
            f"{asked[0]} x {asked[1]} (height x width), the nearest is size={fitting}."
        )


def levels(case: Case) -> Iterator[str]:
    """Steps and spacing that the model's schedule has."""
    config, folder = case.config, _folder(case)
    if folder is None or config.spacing == "diffusers":  # its grids are the sampler's to say
        return
    from ldm.interop.diffusers import read_schedule

    schedule, _ = read_schedule(folder / "scheduler")
    try:
        schedule.levels(config.steps, config.spacing)
    except ValueError as error:
        yield f"steps={config.steps} spacing={config.spacing}: {error}"


def needless_guidance(case: Case) -> Iterator[str]:
    """A remark: settings of guidance where there is none."""
    unset = {"negative": "", "guidance_rescale": 0.0, "guidance_interval": None}
    for key, usual in unset.items():
        if case.config.guidance == 1.0 and case.config.get(key) != usual:
            yield f"{key}= changes nothing with guidance=1, where there is no guidance."


def out(case: Case) -> Iterator[str]:
    """A directory for the pictures, not a file."""
    if Path(case.config.out).is_file():
        yield f"out={case.config.out} is a file; give the name of a directory."


def accelerator(case: Case) -> None:
    """A GPU where one is asked for."""
    from ldm.apps.build import device_of

    device_of(case.config.accelerator)  # says that there is none


def _folder(case: Case) -> Path | None:
    """The model's folder with all of its parts; None where ``model`` says what is not there."""
    try:
        folder = model_folder(case.config.model, "unet")
    except ValueError:
        return None
    return folder if all((folder / part).is_dir() for part in _PARTS) else None
