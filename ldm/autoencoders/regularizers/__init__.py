"""What an autoencoder stores of a picture, how a latent is drawn from it, what it costs."""

from ldm.autoencoders.regularizers.kl import KL
from ldm.autoencoders.regularizers.protocol import Regularizer
from ldm.autoencoders.regularizers.vq import VQ

__all__ = ["KL", "VQ", "Regularizer"]
