"""Files that a command is to read: data, runs, models, pretrained weights."""

from collections.abc import Iterator
from pathlib import Path

from ldm.apps.locate import model_folder
from ldm.apps.rules.case import Case
from ldm.apps.shards import image_shards
from ldm.data.remote import is_url


def data(case: Case) -> Iterator[str]:
    """Image shards or a latent cache at ``data.root``, as the stage reads them."""
    config, root = case.config, case.root
    if is_url(str(config.data.root)):
        if config.stage == "diffusion":
            yield f"data.root={config.data.root}: a latent cache is read where it is; copy it here."
        else:
            image_shards(config.data)  # says what is not there
    elif not (root / "manifest.json").is_file() and not any(root.glob("*.tar")):
        yield (
            f"data.root={root} holds no latent cache; make it with: ldm cache autoencoder_run=RUN "
            f"text_run=RUN data.root=SHARDS out={root}"
            if config.stage == "diffusion"
            else f"data.root={root} holds no image shards; make them with: ldm prepare "
            f"data=shapes|digits|folder out={root}"
        )


def kind_of_data(case: Case) -> Iterator[str]:
    """Shards where latents are needed, and the other way."""
    config, root = case.config, case.root
    if config.stage != "diffusion" and case.latents is not None:
        yield (
            f"data.root={root} is a latent cache, and stage {config.stage} learns from pictures; "
            f"give the shards that it was made from: data.root={_shards_of(case)}"
        )
    elif config.stage == "diffusion" and case.latents is None and any(root.glob("*.tar")):
        yield (
            f"data.root={root} holds image shards, and stage diffusion learns from latents; make "
            f"them with: ldm cache autoencoder_run=RUN text_run=RUN data.root={root} out=LATENTS"
        )


def channels_of_shards(case: Case) -> None:
    """Pictures of as many channels as the autoencoder takes."""
    root = str(case.config.data.root)
    if case.latents is not None or not (is_url(root) or case.root.is_dir()):
        return
    from ldm.apps.shards import require_channels

    remedy = "set autoencoder.image_channels={0} discriminator.in_channels={0}"
    try:
        shards = image_shards(case.config.data)
    except ValueError:
        return  # told by ``data``
    require_channels(shards, case.config.autoencoder.image_channels, remedy)


def own_towers(case: Case) -> Iterator[str]:
    """The run whose image tower is the perceptual distance."""
    config = case.config
    if config.perceptual != "own":
        return
    if not config.text_run:
        yield "perceptual=own needs text_run=RUN, your own text encoder's run."
    else:
        model_folder(config.text_run, "text_encoder")  # says what is not there


def beginning(case: Case) -> None:
    """The model that ``init`` names."""
    if case.config.init is not None:
        part = {"diffusion": "unet", "autoencoder": "vae"}.get(case.config.stage, "text_encoder")
        model_folder(case.config.init, part)  # says what is not there


def directory_of_the_run(case: Case) -> Iterator[str]:
    """A place for the run: a directory, not a file."""
    run = Path(str(case.config.run))
    if run.exists() and not run.is_dir():
        yield f"run={run} is a file; give the name of a directory."


def _shards_of(case: Case) -> str:
    from ldm.apps.locate import input_folder

    assert case.latents is not None
    inputs = case.latents.inputs
    return str(input_folder(inputs, "shards", case.root)) if "shards" in inputs else "SHARDS"
