"""Drawn worlds, each with an exact analytic judge: truth without labelling or a trained network."""
