"""Gumbel noise by text, position and character: the numbers of `jax.random`, made in one loop.

On CPUs `jax.random` takes its bits through the rounds array by array; written out, the rounds of all numbers are
one loop of vector instructions, which takes half the time and compiles in a quarter of it.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn.arrays import Array

Words = tuple[Array, Array]
"""Twice 32 bits, of arrays of one shape: keys, counters or random bits."""

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)


def gumbel(seed: Array, numbers: Array, positions: Array, vocabulary_size: int) -> Array:
    """Standard Gumbel noise `[T, B, V]` for the texts with these numbers `[B]` at these positions `[T, B]`.

    A value depends on the seed (a uint32), its text's number, its position and its character, and on nothing else:
    it is that of `jax.random.gumbel` with the seed's key, into which number and position are folded.
    """
    of_text = _fold_in((jnp.zeros_like(seed), seed), numbers)
    of_position = _fold_in(of_text, positions)
    shape = (*positions.shape, vocabulary_size)
    key = tuple(jnp.broadcast_to(word[..., None], shape) for word in of_position)
    characters = jnp.broadcast_to(jnp.arange(vocabulary_size, dtype=jnp.uint32), shape)
    first, second = threefry((key[0], key[1]), (jnp.zeros_like(characters), characters))
    return -jnp.log(-jnp.log(_uniform(first ^ second)))


def threefry(key: Words, counter: Words) -> Words:
    """Random bits by key and counter: Threefry-2x32 of 20 rounds (Salmon 2011, "Parallel random numbers")."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(distance) | y >> np.uint32(32 - distance))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _fold_in(key: Words, data: Array) -> Words:
    first, second = (jnp.broadcast_to(word, data.shape) for word in key)
    return threefry((first, second), (jnp.zeros(data.shape, jnp.uint32), data.astype(jnp.uint32)))


def _uniform(bits: Array) -> Array:
    """Float32 numbers above 0 and below 1: 23 bits each as the fraction of a number from 1 to 2, less 1."""
    smallest = np.finfo(np.float32).tiny
    fraction = lax.bitcast_convert_type(bits >> np.uint32(9) | np.uint32(0x3F800000), jnp.float32) - 1
    return jnp.maximum(smallest, fraction * (1 - smallest) + smallest)
