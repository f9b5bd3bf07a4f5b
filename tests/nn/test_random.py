"""Random bits are those of their generator and of `jax.random`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.nn.random import Words, bits, fold_in, mask, threefry

KNOWN = (  # key, counter, result: the known answers that come with the generator's own library (Random123)
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)


def words_of(key: jax.Array) -> Words:
    first, second = jax.random.key_data(key)
    return first, second


@pytest.mark.parametrize(("key", "counter", "known"), KNOWN)
def test_the_bits_are_those_of_the_generator_s_known_answers(
    key: tuple[int, int], counter: tuple[int, int], known: tuple[int, int]
) -> None:
    words = [(jnp.uint32(first), jnp.uint32(second)) for first, second in (key, counter)]
    assert tuple(int(word) for word in threefry(*words)) == known


def test_they_are_those_of_jax() -> None:
    key = jax.random.key(2**32 - 3, impl="threefry2x32")
    theirs = jax.random.bits(key, (30, 7), jnp.uint32)
    np.testing.assert_array_equal(bits(words_of(key), jnp.arange(210, dtype=jnp.uint32).reshape(30, 7)), theirs)
    for data in (0, 1, 2**31 - 1):
        assert jnp.array(fold_in(words_of(key), jnp.int32(data))).tolist() == [
            int(word) for word in words_of(jax.random.fold_in(key, data))
        ]


@pytest.mark.parametrize("shape", [(), (50,), (9, 1), (5, 4, 32), (1, 3), (0, 4)])
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_a_mask_is_of_the_bits_below_its_share(shape: tuple[int, ...], share: float) -> None:
    key = jax.random.key(1, impl="threefry2x32")
    below = np.asarray(jax.random.bits(key, shape, jnp.uint32)) < share * 2**32
    made = mask(words_of(key), share, shape)
    assert made.dtype == bool
    np.testing.assert_array_equal(made, below)


@pytest.mark.parametrize("share", [0.0, 1e-4, 1.0])
def test_shares_at_the_ends(share: float) -> None:
    made = np.asarray(mask(words_of(jax.random.key(2)), share, (100, 2000)))
    assert made.mean() == pytest.approx(share, abs=5e-5)
