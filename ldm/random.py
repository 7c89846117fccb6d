"""Keyed randomness: every random number is a pure function of (seed, stream name, sample index).

A counter-based generator in the spirit of Salmon et al. 2011 ("Parallel random numbers: as easy as
1, 2, 3"): a 64-bit integer hash of (key, sample index, position) gives uniform bits, from which
uniforms, normals and permutations follow. Nothing is stateful, so the draw for global sample index
i is the same on any rank, in any batch split, after any resume. Draws are integer tensor arithmetic
and run on any device and inside compiled code.
"""

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The odd constants and shifts of splitmix64's finaliser (Steele et al. 2014), as signed 64 bit.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def stream(seed: int, *names: str | int) -> int:
    """The signed 64-bit key of a named stream, e.g. ``stream(seed, "noise", step)``."""
    text = "\x1f".join([str(int(seed)), *(f"{type(n).__name__}:{n}" for n in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical (not sign-extending) right shift of an int64 tensor."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """A bijective hash of int64, elementwise (the finaliser of splitmix64)."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _bits(key: int, index: Tensor, count: int) -> Tensor:
    """Random int64 of shape (B, count) for sample indices (B,).

    A longer draw of the same key begins with a shorter one: draws that must be independent need
    streams of their own.
    """
    rows = _mix(_mix(index.to(torch.int64) + key) + _GOLDEN)
    columns = torch.arange(1, count + 1, device=index.device) * _GOLDEN
    return _mix(rows[:, None] + columns[None, :])


def uniform(key: int, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniforms in the open interval (0, 1): (B,) sample indices -> (B, *shape) float32."""
    # 23 random bits, centred in their cell: exactly representable, never 0 and never 1.
    bits = _shift_right(_bits(key, index, math.prod(shape)), 41)
    return ((bits.to(torch.float32) + 0.5) * 2.0**-23).view(len(index), *shape)


def normal(key: int, index: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Standard normals by Box-Muller: (B,) sample indices -> (B, *shape) float32.

    The radius uses 52 bits in float64 so that the tails reach beyond 8 sigma.
    """
    count = math.prod(shape)
    bits = _bits(key, index, 2 * ((count + 1) // 2))
    first, second = bits.chunk(2, dim=1)
    radius_uniform = (_shift_right(first, 12).to(torch.float64) + 0.5) * 2.0**-52
    radius = (-2.0 * radius_uniform.log()).sqrt().to(torch.float32)
    angle = _shift_right(second, 40).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pairs[:, :count].reshape(len(index), *shape)


def integers(key: int, index: Tensor, high: int, shape: tuple[int, ...] = ()) -> Tensor:
    """Integers in [0, high): (B,) sample indices -> (B, *shape) int64; bias below high / 2^62."""
    bits = _shift_right(_bits(key, index, math.prod(shape)), 2)
    return (bits % high).view(len(index), *shape)


def permutation(key: int, n: int, index: Tensor) -> Tensor:
    """A keyed bijection of 0..n-1 applied to ``index`` (int64 on the CPU, any shape), no table.

    A balanced Feistel network over the smallest even number of bits that holds n, walked along
    its cycle until it lands below n (Black and Rogaway 2002); on average under four walks.
    Order is decided on the host, where numpy is five times as fast as torch at such sizes.
    """
    if n < 2:
        return torch.zeros_like(index)
    half_bits = ((n - 1).bit_length() + 1) // 2
    half, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    round_keys = [_unsigned(stream(key, "feistel", round_)) for round_ in range(4)]

    def encipher(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = x >> half, x & mask
        for round_key in round_keys:
            mixed = right + round_key
            for _ in range(2):
                _mix_in_place(mixed)
            left, right = right, left ^ (mixed & mask)
        return (left << half) | right

    x = encipher(index.numpy().ravel().astype(np.uint64))
    outside = np.flatnonzero(x >= n)
    while len(outside):
        x[outside] = moved = encipher(x[outside])
        outside = outside[moved >= n]
    return torch.from_numpy(x.astype(np.int64)).view(index.shape)


def _mix_in_place(x: NDArray[np.uint64]) -> None:
    """``_mix`` of unsigned integers, whose shifts need no mask."""
    x ^= x >> np.uint64(30)
    x *= _unsigned(_MIX_1)
    x ^= x >> np.uint64(27)
    x *= _unsigned(_MIX_2)
    x ^= x >> np.uint64(31)


def _unsigned(value: int) -> np.uint64:
    return np.uint64(value % (1 << 64))
