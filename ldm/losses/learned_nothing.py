"""What a denoiser pays that learned nothing: the lines to hold a loss against.

For normalised latents, mean 0 and variance 1, with x = alpha x0 + sigma eps. Losses are mean
squared errors of the network's output, in the parametrisation of ``prediction``.
"""

from torch import Tensor

from ldm.diffusion.prediction import Prediction


def zero_predictor_loss(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The loss at each noise level of always answering zero, the best constant; as alpha.

    It is the variance of the target: 1 for the noise, for v on a variance-preserving schedule and
    for the clean sample, 2 for the velocity of a straight line.
    """
    zero, one = alpha.new_zeros(alpha.shape), alpha.new_ones(alpha.shape)
    of_x0 = prediction.target(one, zero, alpha, sigma)
    of_eps = prediction.target(zero, one, alpha, sigma)
    return of_x0.square() + of_eps.square()


def linear_predictor_loss(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The loss at each noise level of the best multiple of x, which knows no picture; as alpha.

    From x alone, x0 is known up to the variance sigma^2 / (alpha^2 + sigma^2): the posterior of
    one Gaussian seen through another. Where x is nearly the noise itself, that is an easy win:
    only what lies below this line was learned from pictures.
    """
    left = sigma.square() / (alpha.square() + sigma.square())
    return left * prediction.error_scale(alpha, sigma).square()
