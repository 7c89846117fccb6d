"""Models in the folder format of diffusers: config.json and safetensors per part.

Parameter names are diffusers' own, so weights go in and out key for key. A folder is that of the
part itself, or of a whole pipeline in which the part has its usual name (unet, vae, scheduler).
Pickled weights are never opened. Each part's format has a file of its own; this is what the rest
of the house uses of them.
"""

from ldm.interop.diffusers_autoencoder import read_autoencoder, read_scale, write_autoencoder
from ldm.interop.diffusers_scheduler import read_schedule, write_schedule
from ldm.interop.diffusers_unet import read_unet, write_unet
from ldm.interop.pipeline import read_pipeline, write_pipeline

__all__ = [
    "read_autoencoder",
    "read_pipeline",
    "read_scale",
    "read_schedule",
    "read_unet",
    "write_autoencoder",
    "write_pipeline",
    "write_schedule",
    "write_unet",
]
