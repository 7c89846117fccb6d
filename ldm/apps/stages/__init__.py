"""Putting a stage together from its configuration, one file each."""
