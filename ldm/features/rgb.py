"""Images for networks that know three channels only."""

from torch import Tensor


def as_rgb(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) as they are, grey ones (B, 1, H, W) repeated to three channels.

    ValueError for other numbers of channels: which three of them make a picture is not ours to say.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"images of {channels} channels cannot be shown to a network that knows red, green and "
            "blue. Leave such metrics out; in stage autoencoder give perceptual_channels=[A,B,C], "
            "counted from 0, or perceptual=none; use condition=classes or none in place of own "
            "text towers."
        )
    return images.expand(-1, 3, -1, -1)
