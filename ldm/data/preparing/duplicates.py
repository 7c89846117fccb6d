"""Pictures that are there more than once: exactly, or nearly by a difference hash."""

import hashlib
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_DISTANCE = 2  # bits of 64 in which the hashes of nearly equal pictures may differ
_BANDS = 4


def exact_hash(pixels: NDArray[Any]) -> int:
    """64 bits that stand for a picture (H, W, C), pixel by pixel."""
    state = hashlib.blake2b(repr((pixels.shape, pixels.dtype)).encode(), digest_size=8)
    state.update(pixels.tobytes())
    return int.from_bytes(state.digest())


def difference_hash(pixels: NDArray[Any]) -> int:
    """64 bits for where a picture (H, W, C), shrunk to 9 x 8 greys, gets brighter to the right.

    It hardly changes with size, compression and brightness (Krawetz 2013, "Kind of like that").
    """
    if pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        grey = Image.fromarray(pixels).convert("L")
    else:
        grey = Image.fromarray(pixels.mean(axis=2, dtype=np.float32))
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def first_equal(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of (N,) values the first equal one in ``order`` (positions by preference): (N,).

    Itself where there is none before it.
    """
    ranked = values[order]
    _, first, which = np.unique(ranked, return_index=True, return_inverse=True)
    result = np.empty(len(values), np.int64)
    result[order] = order[first[which]]
    return result


def near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (M, 2) of positions whose hashes (N,) differ in at most ``MAX_DISTANCE`` bits.

    Two such hashes agree in two of four bands of 16 bits at least, so for each choice of two bands
    equal ones are sorted together: O(N log N). Within such a group, neighbours are compared, which
    finds every hash its like but not each pair of many alike ones.
    """
    found = [np.zeros((0, 2), np.int64)]
    width = 64 // _BANDS
    for chosen in combinations(range(_BANDS), _BANDS - MAX_DISTANCE):
        mask = np.uint64(sum(((1 << width) - 1) << (width * band) for band in chosen))
        order = np.lexsort((hashes, hashes & mask))
        ranked = hashes[order]
        for step in (1, 2, 3):
            near = np.bitwise_count(ranked[step:] ^ ranked[:-step]) <= MAX_DISTANCE
            found.append(np.stack([order[:-step][near], order[step:][near]], 1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
