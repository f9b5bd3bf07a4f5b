"""The network around the recurrence: embedding or one-hot, layers, head, its single step, its names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from charrnn.config import ModelConfig
from charrnn.nn import network as nw
from charrnn.nn.network import create, drop, look_up, named_arrays, with_arrays

V, T, B = 11, 9, 4
SHAPES = [("lstm", 1, 0), ("lstm", 2, 6), ("gru", 1, 0), ("gru", 3, 6)]
every_shape = pytest.mark.parametrize(("cell", "layers", "embedding"), SHAPES)


def make(cell: str = "lstm", layers: int = 1, embedding: int = 0, seed: int = 0) -> nw.Network:
    return create(ModelConfig(cell=cell, num_layers=layers, hidden_size=8, embedding_size=embedding), V, seed)


def window() -> tuple[jax.Array, jax.Array]:
    random = np.random.default_rng(1)
    resets = np.zeros((T, B), bool)
    resets[0], resets[5, 2] = True, True
    return jnp.asarray(random.integers(0, V, (T, B)), jnp.int32), jnp.asarray(resets)


@every_shape
def test_the_single_step_is_the_window_cut_small(cell, layers, embedding):
    network, (inputs, resets) = make(cell, layers, embedding), window()
    logits, final = network(inputs, resets, network.initial_carry(B))
    table, carry = network.first_projections("float32"), network.initial_carry(B)
    for t in range(T):
        carry = jax.tree.map(lambda part, fresh=resets[t]: jnp.where(fresh[:, None], 0.0, part), carry)
        step_logits, carry = network.step(table, inputs[t], resets[t], carry, "float32")
        np.testing.assert_allclose(step_logits, logits[t], rtol=2e-4, atol=2e-5)
    for part, wanted in zip(jax.tree.leaves(carry), jax.tree.leaves(final), strict=True):
        np.testing.assert_allclose(part, wanted, rtol=2e-4, atol=2e-5)


@every_shape
def test_a_reset_hides_the_character_before(cell, layers, embedding):
    network, (inputs, resets) = make(cell, layers, embedding), window()
    other = inputs.at[5, 2].set((inputs[5, 2] + 1) % V)
    carry = network.initial_carry(B)
    np.testing.assert_array_equal(network(inputs, resets, carry)[0], network(other, resets, carry)[0])


@pytest.mark.parametrize("rows", [7, 3000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_look_up_has_the_gradient_of_indexing(rows, dtype):
    random = np.random.default_rng(2)
    table = jnp.asarray(random.normal(size=(rows, 5)), dtype)
    ids = jnp.asarray(random.integers(0, rows, (6, 3)), jnp.int32)
    weights = jnp.asarray(random.normal(size=(6, 3, 5)), dtype)
    ours = jax.grad(lambda table: (look_up(table, ids) * weights).sum())(table)
    plain = jax.grad(lambda table: (table[ids] * weights).sum())(table)
    assert ours.dtype == table.dtype
    np.testing.assert_allclose(ours.astype(jnp.float32), plain.astype(jnp.float32), rtol=2e-2, atol=1e-6)


@every_shape
def test_named_arrays_are_the_network(cell, layers, embedding):
    network, other = make(cell, layers, embedding), make(cell, layers, embedding, seed=1)
    named = named_arrays(network)
    assert f"layers.{layers - 1}.recurrent_kernel" in named and ("embedding" in named) == bool(embedding)
    inputs, resets = window()
    carry = network.initial_carry(B)
    np.testing.assert_array_equal(
        with_arrays(other, named)(inputs, resets, carry)[0], network(inputs, resets, carry)[0]
    )


def test_a_network_is_reproducible_from_its_seed():
    first, again, other = (named_arrays(make(seed=seed)) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["head_kernel"] == other["head_kernel"]).all()


def test_initialisation():
    layer = create(ModelConfig(hidden_size=8, embedding_size=4, forget_bias=2.0), V, 0).layers[0]
    for block in jnp.split(layer.recurrent_kernel[...], 4, -1):
        np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-5)
    np.testing.assert_array_equal(layer.bias[...], np.repeat([0, 2, 0, 0], 8))
    one_hot = create(ModelConfig(hidden_size=64, embedding_size=0), 50, 0).layers[0].input_kernel[...]
    assert 0.9 < float(one_hot.std()) < 1.1


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_keeps_the_mean(rate):
    values = drop(jnp.ones(200_000), rate, jax.random.key(0))
    assert float((values == 0).mean()) == pytest.approx(rate, abs=0.01)
    assert float(values.mean()) == pytest.approx(1.0, abs=0.03)


def test_dropout_needs_a_key_and_differs_by_key():
    network, (inputs, resets) = make(layers=2), window()
    carry = network.initial_carry(B)
    plain = network(inputs, resets, carry, dropout=0.5)[0]
    np.testing.assert_array_equal(plain, network(inputs, resets, carry)[0])
    one, two = (network(inputs, resets, carry, dropout=0.5, key=jax.random.key(k))[0] for k in (1, 2))
    assert not (one == two).all() and not (one == plain).all()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gradient_lowers_for_accelerators(platform, precision):
    network, (inputs, resets) = make(layers=2, embedding=6), window()
    leaves, structure = jax.tree.flatten(network)

    @jax.jit
    def gradient(leaves: list, inputs: jax.Array, resets: jax.Array) -> list:
        def loss(network: nw.Network) -> jax.Array:
            return network(inputs, resets, network.initial_carry(B), precision=precision)[0].sum()

        return jax.tree.leaves(jax.grad(loss)(jax.tree.unflatten(structure, leaves)))

    assert export.export(gradient, platforms=[platform])(leaves, inputs, resets).platforms == (platform,)
