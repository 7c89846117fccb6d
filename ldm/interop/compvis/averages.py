"""The averaged weights that a training checkpoint of CompVis has beside those it trained."""

from torch import Tensor

from ldm.interop.compvis.layouts import UNET_PREFIX
from ldm.interop.weights_fit import Tensors

PREFIX = "model_ema."
_BOOKKEEPING = (f"{PREFIX}decay", f"{PREFIX}num_updates")


def chosen(unet: Tensors, state: Tensors, weights: str | None) -> tuple[dict[str, Tensor], list]:
    """A UNet's tensors (without prefix) by choice, and a sentence on it where there was one.

    ``weights``: "ema" are the averages, "raw" those of the last step; None takes the averages
    where there are some. ValueError where there are none, or not of every tensor.
    """
    names = [name for name in state if name.startswith(PREFIX) and name not in _BOOKKEEPING]
    if not names and weights is None:
        return dict(unet), []
    if not names:
        raise ValueError(
            f"it has one set of weights and no averages ({PREFIX}*); leave weights= out."
        )
    if weights == "raw":
        return dict(unet), [f"unet: the weights of the last step were taken, not the {PREFIX}*"]
    # Called as the tensor is, without its "model." and without dots.
    inner = UNET_PREFIX.removeprefix("model.")
    places = {name: PREFIX + (inner + name).replace(".", "") for name in unet}
    missing = [place for place in places.values() if place not in state]
    if missing:
        raise ValueError(
            f"{len(missing)} averages are missing ({', '.join(missing[:3])}, ...). Add weights=raw "
            "to take the weights of the last step."
        )
    return {name: state[place] for name, place in places.items()}, [
        f"unet: the averaged weights ({PREFIX}*) were taken; weights=raw takes the last step's"
    ]
