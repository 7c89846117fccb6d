"""Sizes, channels and order of pictures, and whether they may be mirrored."""

from collections.abc import Iterator

from ldm.apps.rules.case import Case


def divisible_by_stride(case: Case) -> Iterator[str]:
    """Pictures that an autoencoder can halve to its depth."""
    config = case.config
    stride = 2 ** (len(config.autoencoder.channels) - 1)
    if config.size % stride:
        around = {config.size // stride * stride or stride, (config.size // stride + 1) * stride}
        yield (
            f"size={config.size} is not divisible by the autoencoder's total stride {stride}; "
            f"choose a multiple of {stride}: size={' or size='.join(map(str, sorted(around)))}."
        )


def channels(case: Case) -> Iterator[str]:
    """Parts of stage autoencoder that take pictures of the same channels."""
    config = case.config
    count, chosen = config.autoencoder.image_channels, config.perceptual_channels
    discriminator = config.discriminator
    if discriminator and discriminator.get("in_channels", count) != count:
        yield (
            f"discriminator.in_channels={discriminator.in_channels}, but the autoencoder's "
            f"pictures have {count} channels; set discriminator.in_channels={count}."
        )
    if chosen is not None and (len(chosen) not in (1, 3) or not all(c < count for c in chosen)):
        yield (
            f"perceptual_channels={list(chosen)} must be three channels of the autoencoder's "
            f"{count} (or one, seen as grey), counted from 0."
        )
    looks = config.perceptual != "none" and config.loss.perceptual > 0.0
    if looks and chosen is None and count not in (1, 3):
        yield (
            f"perceptual={config.perceptual} knows red, green and blue, and the pictures have "
            f"{count} channels; say which three it sees, such as perceptual_channels=[0,1,2], "
            "or set perceptual=none."
        )


def order_of_latents(case: Case) -> Iterator[str]:
    """Latents are read at random."""
    if case.config.data.order != "shuffled":
        yield (
            f"data.order={case.config.data.order} is for image shards; a latent cache is read at "
            "random from memory maps. Set data.order=shuffled."
        )


def lanes_of_a_stream(case: Case) -> Iterator[str]:
    """Shards that a batch is mixed from, each giving as many pictures."""
    data, batch = case.config.data, case.config.global_batch
    if data.order == "streamed" and batch % data.lanes:
        fitting = max(d for d in range(1, min(data.lanes, batch) + 1) if batch % d == 0)
        yield (
            f"data.lanes={data.lanes} does not divide global_batch={batch}; set "
            f"data.lanes={fitting}, or another global_batch."
        )


def mirrored(case: Case) -> Iterator[str]:
    """A remark: captions are not mirrored with their pictures."""
    if case.config.flip:
        yield (
            "flip=true mirrors pictures and not their captions: what these say of left, right or "
            "of writing is learned wrong. flip=false is sure."
        )
