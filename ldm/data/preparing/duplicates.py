"""Pictures that are there more than once: exactly, or nearly by a difference hash."""

import hashlib
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_DISTANCE = 2  # bits of 64 in which the hashes of nearly equal pictures may differ
MIN_BITS = 8  # of 64 that a hash must have set, and unset, to say anything
_BANDS = 4
_MOST_COMPARED = 256  # hashes after each one in its group: a crowd costs no square of its number


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


def first_equal(values: NDArray[Any]) -> NDArray[np.int64]:
    """For each of (N,) values the position of the first equal one: (N,), its own if none."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[which]
    return found


def first_near(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of (N,) difference hashes the first of the crowd that it belongs to: (N,).

    A crowd is whatever hangs together by pairs that are near, so the first may be further away
    than ``MAX_DISTANCE``. Flat pictures and plain gradients all have (nearly) the same hash, with
    fewer than ``MIN_BITS`` bits set or unset, whatever they show: these are near to none.
    """
    result = np.arange(len(hashes))
    bits = np.bitwise_count(hashes)
    telling = np.flatnonzero((bits >= MIN_BITS) & (bits <= 64 - MIN_BITS))
    first = telling[first_equal(hashes[telling])]
    single = telling[first == telling]
    result[single] = single[_first_connected(near_pairs(hashes[single]), len(single))]
    result[telling] = result[first]
    return result


def near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (M, 2) of positions whose hashes (N,), all different, are ``MAX_DISTANCE`` bits apart
    or less.

    Two such hashes agree in two of four bands of 16 bits at least, so for each choice of two bands
    those with equal ones are sorted together, and each is compared with the next
    ``_MOST_COMPARED`` of its group: all pairs of groups up to this size are found.
    """
    found = [np.zeros((0, 2), np.int64)]
    width = 64 // _BANDS
    for chosen in combinations(range(_BANDS), _BANDS - MAX_DISTANCE):
        mask = np.uint64(sum(((1 << width) - 1) << (width * band) for band in chosen))
        order = np.lexsort((hashes, hashes & mask))
        ranked = hashes[order]
        left = np.arange(len(hashes))  # those that have another of their group ``step`` behind
        for step in range(1, _MOST_COMPARED + 1):
            left = left[left < len(hashes) - step]
            differing = ranked[left] ^ ranked[left + step]
            together = differing & mask == 0
            left, differing = left[together], differing[together]
            near = left[np.bitwise_count(differing) <= MAX_DISTANCE]
            found.append(np.stack([order[near], order[near + step]], 1))
            if not len(left):
                break
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _first_connected(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each of ``count`` positions the lowest one that ``pairs`` (M, 2) connect it with."""
    lowest = np.arange(count)
    while (lowest[pairs[:, 0]] != lowest[pairs[:, 1]]).any():
        ends = lowest[pairs]
        np.minimum.at(lowest, ends, ends.min(axis=1, keepdims=True))
        while (lowest[lowest] != lowest).any():
            lowest = lowest[lowest]
    return lowest
