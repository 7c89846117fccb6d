"""`ldm cache`: shapes and conditions against each other, and what the cache is made from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.apps.locate import model_folder
from ldm.apps.rules.case import Case


def condition(case: Case) -> None:
    """Text encoders where there is text, and none elsewhere."""
    from ldm.apps.conditioning import text_runs

    text_runs(case.config)  # says what does not go together


def shapes(case: Case) -> None:
    """Buckets whose sides are multiples of their step."""
    from ldm.data.latents.buckets import shape_table

    config = case.config
    if config.buckets and config.size is not None:
        shape_table(
            config.size, step_px=config.bucket_step, max_aspect_ratio=config.max_aspect_ratio
        )


def mirrored(case: Case) -> Iterator[str]:
    """A remark: captions are not mirrored with their pictures."""
    if case.config.flip and case.config.condition == "text":
        yield (
            "flip=true stores mirrored pictures with unmirrored captions: what these say of left, "
            "right or of writing is learned wrong. flip=false is sure."
        )


def autoencoder(case: Case) -> None:
    """The autoencoder's run."""
    model_folder(case.config.autoencoder_run, "vae")  # says what is not there


def text_encoders(case: Case) -> Iterator[str]:
    """The text encoders' runs."""
    from ldm.apps.conditioning import text_parts, text_runs

    for run in text_runs(case.config):
        try:
            text_parts(run)
        except ValueError as error:
            yield str(error)


def shards(case: Case) -> Iterator[str]:
    """Image shards, and not latents."""
    from ldm.apps.shards import image_shards

    if case.latents is not None:
        yield (
            f"data.root={case.root} is a latent cache already; give the image shards that it was "
            "made from."
        )
    else:
        image_shards(case.config.data)  # says what is not there


def fits_the_autoencoder(case: Case) -> Iterator[str]:
    """Size and channels of the pictures against the autoencoder's stride and channels."""
    config, vae = case.config, _vae(case)
    if vae is None:
        return
    step, name = (config.bucket_step, "bucket_step") if config.buckets else (config.size, "size")
    if step is not None and step % vae.stride:
        low = step // vae.stride * vae.stride
        yield (
            f"{name}={step} is no multiple of {vae.stride}, the pixels per latent of "
            f"{config.autoencoder_run}; choose {low or vae.stride} or {low + vae.stride}."
        )


def accelerator(case: Case) -> None:
    """As many GPUs as are asked for."""
    from ldm.apps.build import device_of
    from ldm.apps.processes import require_devices

    require_devices(device_of(case.config.accelerator).type, case.config.devices)


def out(case: Case) -> Iterator[str]:
    """A directory for the cache, apart from what it is made from."""
    out = Path(case.config.out)
    if out.is_file():
        yield f"out={out} is a file; give the name of a directory."
    elif out.resolve() == case.root.resolve():
        yield (
            f"out={out} is data.root: the cache would be mixed with the shards it is made from. "
            "Give another out=."
        )


def _vae(case: Case) -> Any:
    """The autoencoder without its weights; None where ``autoencoder`` says what is not there."""
    from ldm.interop.diffusers_autoencoder import empty_autoencoder

    try:
        return empty_autoencoder(model_folder(case.config.autoencoder_run, "vae") / "vae")
    except ValueError:
        return None
