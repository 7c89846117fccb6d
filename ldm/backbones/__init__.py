"""Denoising networks with a name."""
