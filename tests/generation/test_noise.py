"""The noise that texts are drawn with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.generation.noise import _uniform, gumbel


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_noise_is_that_of_jax_with_number_and_position_folded_in(seed: int) -> None:
    numbers = np.array([0, 1, 5, 2**31 - 1], np.int32)
    positions = np.array([[0, 3, 99, 2], [1, 4, 100, 2**31 - 1], [2, 5, 101, 0]], np.int32)

    def of(number: jax.Array, position: jax.Array) -> jax.Array:
        text = jax.random.fold_in(jax.random.key(np.uint32(seed), impl="threefry2x32"), number)
        return jax.random.gumbel(jax.random.fold_in(text, position), (37,))

    theirs = jax.jit(jax.vmap(jax.vmap(of), (None, 0)))(numbers, positions)
    ours = jax.jit(gumbel, static_argnums=3)(np.uint32(seed), numbers, positions, 37)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert len(np.unique(np.asarray(ours))) == ours.size


def test_the_largest_and_smallest_bits_are_finite_noise() -> None:
    uniform = np.asarray(_uniform(jnp.array([0, 2**32 - 1], jnp.uint32)))
    assert 0 < uniform[0] < 1e-37
    assert 1 - 2**-22 < uniform[1] < 1
