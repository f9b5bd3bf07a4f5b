"""Random bits by key and counter: the numbers of `jax.random`, made in one loop.

On CPUs `jax.random` takes its bits through the rounds array by array; written out, the rounds of all numbers are
one loop of vector instructions, together with what is made of them. It takes an eighth to a half of the time and
compiles in a quarter of it.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn.arrays import Array

Words = tuple[Array, Array]
"""Twice 32 bits, of arrays of one shape: keys, counters or random bits."""

GENERATOR = "threefry2x32"
"""The generator of every key: keys are two words, and a seed's numbers are the same whatever JAX's default is."""

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)


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


def fold_in(key: Words, data: Array) -> Words:
    """A key of its own for each of the numbers: that of `jax.random.fold_in`."""
    return threefry(_spread(key, data.shape), (jnp.zeros(data.shape, jnp.uint32), data.astype(jnp.uint32)))


def bits(key: Words, places: Array) -> Array:
    """Random uint32 for these places (uint32) in what `jax.random.bits` makes of a key; one key, or one for each."""
    first, second = threefry(_spread(key, places.shape), (jnp.zeros_like(places), places))
    return first ^ second


def mask(key: Words, share: float, shape: tuple[int, ...]) -> Array:
    """Of this shape, True with the probability `share`, each by itself.

    On a CPU it is made in a loop over the first axis: XLA would else make it anew in every loop that reads it, and
    compile as many.
    """
    rows = shape[0] if len(shape) > 1 else 1
    width = math.prod(shape) // max(rows, 1)
    below = np.uint32(min(round(share * 2**32), 2**32 - 1))

    def row(number: Array) -> Array:
        return bits(key, number * np.uint32(width) + jnp.arange(width, dtype=jnp.uint32)) < below

    numbers = jnp.arange(rows, dtype=jnp.uint32)
    made = lax.platform_dependent(numbers, cpu=partial(lax.map, row), default=jax.vmap(row))
    return made.reshape(shape)


def _spread(key: Words, shape: tuple[int, ...]) -> Words:
    first, second = (jnp.broadcast_to(word, shape) for word in key)
    return first, second
