"""Samplers: plain functions from (denoise, x, levels) to a clean sample, one file each.

A sampler sees only ``denoise(x, t) -> x0`` and the levels: no schedule, guidance, text or
parametrisation. ``x`` (B, C, h, w) is noise at the first level; ``noise(i)`` gives the fresh
standard normal noise (B, C, h, w) of step i and is not called by deterministic samplers. They
work in every frame x = alpha x0 + sigma eps, from a level without signal (alpha 0) too, and to a
last level that need not be clean. Their own arithmetic never mixes positions or samples, which
inpainting (``ldm.diffusion.editing.keeping``) relies on.
"""
