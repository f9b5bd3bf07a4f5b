"""Gumbel noise by text, position and character."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn.arrays import Array
from charrnn.nn.random import bits, fold_in


def gumbel(seed: Array, numbers: Array, positions: Array, vocabulary_size: int) -> Array:
    """Standard Gumbel noise `[T, B, V]` for the texts with these numbers `[B]` at these positions `[T, B]`.

    A value depends on the seed (a uint32), its text's number, its position and its character, and on nothing else:
    it is that of `jax.random.gumbel` with the seed's key, into which number and position are folded.
    """
    of_text = fold_in((jnp.zeros_like(seed), seed), numbers)
    of_position = fold_in(of_text, positions)
    shape = (*positions.shape, vocabulary_size)
    first, second = (jnp.broadcast_to(word[..., None], shape) for word in of_position)
    characters = jnp.broadcast_to(jnp.arange(vocabulary_size, dtype=jnp.uint32), shape)
    return -jnp.log(-jnp.log(_uniform(bits((first, second), characters))))


def _uniform(words: Array) -> Array:
    """Float32 numbers above 0 and below 1: 23 bits each as the fraction of a number from 1 to 2, less 1."""
    smallest = np.finfo(np.float32).tiny
    fraction = lax.bitcast_convert_type(words >> np.uint32(9) | np.uint32(0x3F800000), jnp.float32) - 1
    return jnp.maximum(smallest, fraction * (1 - smallest) + smallest)
