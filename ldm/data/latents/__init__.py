"""Latent caches: planned, written by any number of processes, read without any."""
