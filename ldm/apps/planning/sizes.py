"""Bytes on the disk: a checkpoint, a model, and what a latent cache takes for each picture."""

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.planning.companions import Companions, stride_of
from ldm.apps.planning.memory import Holdings
from ldm.apps.planning.parts import Parts, parameters
from ldm.data.latents.crop import Variants
from ldm.data.latents.files import Contents
from ldm.data.latents.sizes import COUNT
from ldm.text.sdxl_text import SIZE_EMBEDDING_DIM

_POSITIONS = 16  # of a picture in the shards, and of its first caption


def checkpoint_bytes(held: Holdings, parts: Parts) -> float:
    """Of one file of resume state: weights, what the optimizer remembers, the average."""
    network = sum(v for name, v in held.trained.items() if name != "gradients")
    gradients = {name: 4 * parameters(n) for name, n in parts.learns_beside.items()}
    return network + sum(held.others[name] - of for name, of in gradients.items())


def model_bytes(parts: Parts) -> dict[str, float]:
    """Of the finished model folder, by part, in fp32: what is trained, and what it goes with."""
    found = {"trained": 4.0 * parameters(parts.product)}
    for name, network in parts.frozen.items():
        if name != "perceptual":
            found[name] = 4.0 * parameters(network)
    return found


def cache_bytes_per_image(config: DictConfig, with_: Companions) -> dict[str, int] | None:
    """Of one picture in a latent cache with ids, and with text features; one caption, one crop.

    None for stages that read pictures.
    """
    if with_.autoencoder is None:
        return None
    regularizer = build(with_.autoencoder.regularizer)
    channels = regularizer.latent_channels or with_.autoencoder.latent_channels
    height, width = max(with_.latents, key=lambda shape: with_.latents[shape])
    stride, vector = stride_of(with_.autoencoder), config.backbone.get("vector_dim")
    ids: tuple[int, ...] = (with_.tokens,)
    if with_.text_encoder is not None and "text_encoder_2" in with_.text_encoder:
        ids = (2, with_.tokens)
    found = {}
    for store in ("ids", "features"):
        features = store == "features" and with_.text_encoder is not None
        contents = Contents(
            codes_per_latent=regularizer.codes_per_latent,
            latent_channels=channels,
            stride=stride,
            variants=Variants(flip=False, crops=1, seed=0),
            with_sizes=vector is not None,
            ids=ids,
            tokens=(with_.tokens, config.backbone.context_dim) if features else None,
            vector=vector - COUNT * SIZE_EMBEDDING_DIM if features and vector else None,
            block=1,
        )
        arrays = contents.arrays((height * stride, width * stride), 1, 1).values()
        found[store] = _POSITIONS + sum(_bytes(kind, shape) for kind, shape in arrays)
    return found if with_.text_encoder is not None else {"ids": found["ids"]}


def _bytes(kind: str, shape: tuple[int, ...]) -> int:
    size = int(kind[-1])
    for side in shape:
        size *= side
    return size
