"""Which sets of pictures a configuration of `ldm evaluate` gives, or asks to be made."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain, cycle, islice
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import RECONSTRUCTIONS, REFERENCE, SAMPLES, TRAINING, NotGiven
from ldm.apps.evaluations.sets import Pictures, Readable, in_words
from ldm.apps.evaluations.sets.folder import FolderPictures, read_folder
from ldm.apps.evaluations.sets.generated import GeneratedPictures
from ldm.apps.evaluations.sets.networks import Networks
from ldm.apps.evaluations.sets.reconstructed import ReconstructedPictures
from ldm.apps.evaluations.sets.shards import ShardPictures
from ldm.apps.lineage import shards_of
from ldm.apps.locate import is_unconditional, model_folder, part_input, parts_at
from ldm.apps.request import counted, read_lines
from ldm.apps.sample_folder import record_of
from ldm.apps.shards import image_shards, open_shards, require_channels
from ldm.data.remote import is_url
from ldm.data.shards.reader import ImageShards
from ldm.generation import require_mask
from ldm.interop.diffusers_autoencoder import empty_autoencoder
from ldm.interop.pipeline import is_inpainting, pictures_px
from ldm.manifest import read_json
from ldm.metrics.statistics import Statistics, read_statistics

USUAL_SAMPLES = 256  # where nothing says how many


class GivenSets:
    """The sets by name, each found when it is first asked for.

    Picklable. UserError for what was not given, and what to type.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self._is_autoencoder = config.model is not None and _is_autoencoder(config.model)
        self.statistics = _statistics(config.reference)
        self._found: dict[str, Pictures] = {}
        self._networks = Networks(config)

    def __getitem__(self, name: str) -> Pictures:
        if name not in self._found:
            make = {
                SAMPLES: self._samples,
                REFERENCE: self._reference,
                RECONSTRUCTIONS: self._reconstructions,
                TRAINING: self._training,
            }[name]
            self._found[name] = make()
        return self._found[name]

    @property
    def builds_statistics(self) -> bool:
        """Whether there is nothing to judge: then the reference is to become a file.

        It stands for the samples too, so that measures say what they would note of it.
        """
        return self.config.model is None and self.config.samples is None

    @property
    def generates(self) -> bool:
        """Whether the samples are made here."""
        return self.config.model is not None and not self._is_autoencoder

    @property
    def keeps_samples(self) -> bool:
        """Whether pictures that are made here are kept in samples=."""
        return self.generates and self.config.samples is not None

    def _samples(self) -> Pictures:
        config = self.config
        if self.generates:
            return self._generated()
        if config.model is not None:
            raise UserError(
                f"{config.model} is an autoencoder alone, which makes no pictures: only metrics of "
                "reconstructions can be measured (reconstruction, psnr, ssim, lpips, rfid, "
                "rfd_own). For others give model= a run of stage diffusion."
            )
        if self.builds_statistics:
            return self[REFERENCE]
        lines = None if config.prompts is None else read_lines(config.prompts)
        if _is_shards(config.samples):
            shards = self._image_shards(config.samples)
            count = config.num_samples or len(shards)
            if count > len(shards):
                raise UserError(
                    f"{config.samples} holds {len(shards)} pictures, and num_samples={count}; "
                    "leave num_samples out for all of them."
                )
            found: Pictures = ShardPictures(shards, count, None, {}, lines)
        else:
            folder = read_folder(
                config.samples,
                count=config.num_samples,
                captions=lines,
                lossy=bool(config.allow_jpeg),
            )
            has_captions = lines is not None or any(folder.captions)
            found = folder if has_captions else self._captioned(folder)
        left_over = 0 if lines is None else len(lines) - found.count
        if lines is not None and (left_over < 0 or (left_over and config.num_samples is None)):
            raise UserError(
                f"prompts={config.prompts} has {len(lines)} lines, and there are {found.count} "
                "pictures to judge: one line for each, or for the first ones of both "
                f"num_samples={min(len(lines), found.count)}."
            )
        return found

    def _captioned(self, folder: FolderPictures) -> FolderPictures:
        """A folder without captions with those of others, as far as there are enough."""
        whose, others = self._others_captions()
        captions = list(islice(others, folder.count))
        if len(captions) < folder.count or not any(captions):
            return folder
        print(f"{folder.root} has no captions: those of {whose} are taken, in order", flush=True)
        protocol = {**folder.protocol, "captions_from": whose}
        return replace(folder, captions=captions, protocol=protocol)

    def _generated(self) -> GeneratedPictures:
        config, folder = self.config, model_folder(self.config.model, "unet")
        if is_inpainting(folder):
            require_mask(None)
        if is_unconditional(config.model):
            prompts = [""] * (config.num_samples or USUAL_SAMPLES)
        elif config.prompts is not None:
            lines = read_lines(config.prompts)
            prompts = list(islice(cycle(lines), config.num_samples or len(lines)))
        else:
            count = config.num_samples or USUAL_SAMPLES
            _, captions = self._others_captions()
            prompts = list(islice(cycle(captions), count))
            if not prompts:
                raise UserError(
                    "nothing says of what pictures are to be made: give prompts=FILE with one "
                    "prompt per line, or data.root=SHARDS with captions."
                )
        pictures = counted(prompts, seed=config.seed, block=config.block)
        side = pictures_px(folder)
        return GeneratedPictures(
            config=config,
            pictures=pictures,
            record=record_of(config, pictures),
            size_px=(side, side),
            networks=self._networks,
            folder=None if config.samples is None else Path(config.samples),
        )

    def _others_captions(self) -> tuple[str, Iterator[str]]:
        """Of the reference that was given, else of held-out pictures and then of training's.

        With the name of where they are from.
        """
        if self.config.reference is not None and self.statistics is None:
            captions = self[REFERENCE].captions
            if any(captions):
                return "reference", iter(captions)
        if self._root is None:
            return "nobody", iter(())
        train, held_out = self.shards
        # Training captions only where those of held-out pictures run out.
        return "data.root", chain(held_out.first_captions(), train.first_captions())

    def _reference(self) -> Readable:
        config = self.config
        if self.statistics is not None:
            raise NotGiven(
                f"reference={config.reference} is a file of statistics, and a metric needs the "
                "pictures themselves: give reference=DIR or SHARDS, or leave that metric out."
            )
        if config.reference is None:
            return self._held_out()
        if _is_shards(config.reference):
            shards = self._image_shards(config.reference)
            return ShardPictures(shards, len(shards), None, {})
        return read_folder(config.reference, captions=None, lossy=None)

    def _held_out(self) -> ShardPictures:
        """As many held-out pictures as there are samples, or so many of reconstructions."""
        train, held_out = self.shards
        wanted = self.config.num_samples
        if self.generates or self.config.samples is not None:
            wanted = self[SAMPLES].count
        kind = {"part": "training"} if held_out is train else {}
        count = min(len(held_out), wanted or len(held_out))
        return ShardPictures(held_out, count, self._model_px, kind)

    def _training(self) -> Readable:
        train, _ = self.shards
        return ShardPictures(train, len(train), self._model_px, {})

    def _reconstructions(self) -> Pictures:
        config = self.config
        if config.model is None:
            raise NotGiven(
                "metrics of reconstructions need an autoencoder: give model=RUN, or leave them out."
            )
        reference = self._held_out() if self.statistics else self._reference()
        vae = model_folder(config.model, "vae") / "vae"
        autoencoder = empty_autoencoder(vae)
        if any(side % autoencoder.stride for side in reference.size_px):
            raise UserError(
                f"the reference is {in_words(reference.size_px)}, and the autoencoder of "
                f"{config.model} takes multiples of {autoencoder.stride} px. Prepare it anew: ldm "
                "prepare data=folder data.path=... data.size_px=... out=SHARDS."
            )
        if isinstance(reference, ShardPictures):
            channels = int(autoencoder.config["image_channels"])
            require_channels(
                reference.shards, channels, "evaluate it on pictures like those it learned from"
            )
        made_by = part_input(config.model, "vae")["fingerprint"]
        return ReconstructedPictures(
            reference,
            min(reference.count, config.num_samples or reference.count),
            self._networks,
            {"autoencoder": made_by, "latent": "posterior mode"},
        )

    @cached_property
    def _model_px(self) -> int | None:
        """The side at which a model sees data.root=; None without one, or where it does not say."""
        if self.config.model is None:
            return None
        if not self._is_autoencoder:
            return pictures_px(model_folder(self.config.model, "unet"))
        vae = model_folder(self.config.model, "vae") / "vae"
        side = read_json(vae / "config.json").get("sample_size")
        return None if side is None else int(side)

    @cached_property
    def _root(self) -> str | None:
        """Where the shards are that data.root= names, or that the model was made from."""
        if self.config.data.root is not None or self.config.model is None:
            return self.config.data.root
        part = "vae" if self._is_autoencoder else "unet"
        return shards_of(model_folder(self.config.model, part))

    @cached_property
    def shards(self) -> tuple[ImageShards, ImageShards]:
        if self._root is None:
            raise NotGiven(
                "there is nothing to compare with: give reference=DIR, SHARDS or a file of "
                "statistics, or data.root=SHARDS whose held-out pictures are taken."
            )
        return open_shards(self._data(self._root))

    def _image_shards(self, root: str) -> ImageShards:
        return image_shards(self._data(root))

    def _data(self, root: str) -> DictConfig:
        return OmegaConf.create({**self.config.data, "root": root})


def _is_autoencoder(model: str) -> bool:
    """Whether there is no denoiser; UserError naming what makes one where there is nothing."""
    found = parts_at(model, ("unet", "vae"))
    if not found:
        model_folder(model, "unet")
    return found == ["vae"]


def _statistics(reference: str | None) -> Statistics | None:
    """The reference where it is a file of statistics."""
    if reference is None or is_url(reference):
        return None
    if Path(reference).suffix not in (".safetensors", ".npz"):
        return None
    if not Path(reference).is_file():
        raise UserError(f"reference={reference}: there is no such file.")
    return read_statistics(reference)


def _is_shards(path: str) -> bool:
    return is_url(path) or any(Path(path).glob("*.tar"))
