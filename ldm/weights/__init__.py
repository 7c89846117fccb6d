"""Pretrained files: which exist, where they belong, whether they are intact. Never downloads.

They lie under their public names in one folder, ``weights_dir``; everything that needs one asks
``find`` before any work starts, so offline machines learn at once what is missing.
"""

from ldm.weights.finding import FoundFile, MissingWeights, find
from ldm.weights.reading import hash_tensors, load_state_dict, what_else
from ldm.weights.table import TABLE, Pretrained, PublishedFile

__all__ = [
    "TABLE",
    "FoundFile",
    "MissingWeights",
    "Pretrained",
    "PublishedFile",
    "find",
    "hash_tensors",
    "load_state_dict",
    "what_else",
]
