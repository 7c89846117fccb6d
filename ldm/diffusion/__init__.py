"""The mathematics of diffusion: schedules, predictions, guidance, samplers. Torch only.

The frame everywhere is x_t = alpha_t x0 + sigma_t eps.
"""
