"""The network around the recurrence: embedding or one-hot, layers, head, its single step, its names."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from charrnn.config import ModelConfig
from charrnn.nn import network as nw
from charrnn.nn import recurrence
from charrnn.nn.arrays import look_up
from charrnn.nn.cells import CELLS
from charrnn.nn.network import Dropout, create, drop, named_arrays, with_arrays

V, T, B = 11, 9, 4
SHAPES = [("lstm", 1, 0), ("gru", 3, 6), *((cell, 2, 6) for cell in CELLS)]
FEW_SHAPES = [("lstm", 1, 0), ("gru", 3, 6), ("mogrifier-lstm", 2, 6), ("minlstm", 2, 6)]
few_shapes = pytest.mark.parametrize(("cell", "layers", "embedding"), FEW_SHAPES)
every_shape = pytest.mark.parametrize(("cell", "layers", "embedding"), SHAPES)


# Compiling is most of these tests' time, and they are about the formulas: not for speed.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def make(cell: str = "lstm", layers: int = 1, embedding: int = 0, seed: int = 0) -> nw.Network:
    return create(ModelConfig(cell=cell, num_layers=layers, hidden_size=8, embedding_size=embedding), V, seed)


def window() -> tuple[jax.Array, jax.Array]:
    random = np.random.default_rng(1)
    resets = np.zeros((T, B), bool)
    resets[0], resets[5, 2] = True, True
    return jnp.asarray(random.integers(0, V, (T, B)), jnp.int32), jnp.asarray(resets)


@quick_jit
def run(network: nw.Network, inputs: jax.Array, resets: jax.Array) -> tuple[jax.Array, tuple]:
    """A window from the zero state: the logits and the state after it. Compiled once a network's shape."""
    return network(inputs, resets, network.initial_carry(B))


def stepwise(network: nw.Network, inputs: jax.Array, resets: jax.Array) -> tuple[jax.Array, tuple]:
    """The same in single steps, the state set to zero by hand."""
    table = network.first_projections("float32")

    def body(carry: tuple, here: tuple) -> tuple:
        ids, fresh = here
        carry = jax.tree.map(lambda part: jnp.where(fresh[:, None], 0.0, part), carry)
        logits, carry = network.step(table, jnp.where(fresh, V, ids), carry, "float32")
        return carry, logits

    carry, logits = jax.lax.scan(body, network.initial_carry(B), (inputs, resets))
    return logits, carry


@every_shape
def test_the_single_step_is_the_window_cut_small(cell, layers, embedding):
    network = make(cell, layers, embedding)
    whole, steps = (jax.tree.leaves(how(network, *window())) for how in (run, quick_jit(stepwise)))
    for found, wanted in zip(steps, whole, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@few_shapes
def test_the_folded_input_is_the_product_with_a_vector(cell, layers, embedding):
    network, (inputs, resets) = make(cell, layers, embedding), window()

    @quick_jit
    def unfolded(network: nw.Network) -> jax.Array:
        vectors = jnp.eye(V) if network.embedding is None else network.embedding[...]
        hidden = jnp.where(resets[..., None], 0.0, vectors[inputs])  # a document starts from the zero vector
        for layer, state in zip(network.layers, network.initial_carry(B), strict=True):
            blocks = layer.project_window(hidden, "float32")
            hidden, _ = recurrence.run(layer.cell, layer.weights, blocks, state, resets, "float32")
        return network.head(hidden, "float32")

    np.testing.assert_allclose(run(network, inputs, resets)[0], unfolded(network), rtol=2e-4, atol=2e-5)


@few_shapes
def test_the_gradient_of_the_window_is_that_of_its_steps(cell, layers, embedding):
    network = make(cell, layers, embedding)
    ours, plain = (
        jax.tree.leaves(quick_jit(jax.grad(lambda network, how=how: (how(network, *window())[0] ** 2).sum()))(network))
        for how in (run.__wrapped__, stepwise)
    )
    for found, expected in zip(ours, plain, strict=True):
        assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


@few_shapes
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_carry_and_the_logits_stay_float32(cell, layers, embedding, precision):
    inputs, resets = window()

    def both(network: nw.Network) -> tuple:
        carry, table = network.initial_carry(B), network.first_projections(precision)
        step = network.step(table, inputs[0], carry, precision)
        return network(inputs, resets, carry, precision=precision), step

    arrays = jax.eval_shape(both, make(cell, layers, embedding))
    assert {str(array.dtype) for array in jax.tree.leaves(arrays)} == {"float32"}


@few_shapes
def test_a_reset_hides_the_character_before(cell, layers, embedding):
    network, (inputs, resets) = make(cell, layers, embedding), window()
    other = inputs.at[5, 2].set((inputs[5, 2] + 1) % V)
    np.testing.assert_array_equal(run(network, inputs, resets)[0], run(network, other, resets)[0])


def rows_by(table: jax.Array, ids: jax.Array) -> jax.Array:
    """`look_up` of a table with six columns, in three blocks, side by side again."""
    blocks = look_up(table, ids, 3)
    assert [block.shape for block in blocks] == [(*ids.shape, 2)] * 3
    return jnp.concatenate(blocks, -1)


@pytest.mark.parametrize("rows", [7, 3000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_look_up_has_the_gradient_of_indexing(rows, dtype):
    random = np.random.default_rng(2)
    table = jnp.asarray(random.normal(size=(rows, 6)), dtype)
    ids = jnp.asarray(random.integers(0, rows, (6, 3)), jnp.int32)
    weights = jnp.asarray(random.normal(size=(6, 3, 6)), dtype)
    ours = quick_jit(jax.grad(lambda table: (rows_by(table, ids) * weights).sum()))(table)
    plain = quick_jit(jax.grad(lambda table: (table[ids] * weights).sum()))(table)
    assert ours.dtype == table.dtype
    np.testing.assert_array_equal(rows_by(table, ids), table[ids])
    np.testing.assert_allclose(ours.astype(jnp.float32), plain.astype(jnp.float32), rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("rows", [7, 2048, 2049])
def test_look_up_sums_in_float64_where_asked(rows):
    with jax.enable_x64(True):
        random = np.random.default_rng(3)
        table, ids = jnp.asarray(random.normal(size=(rows, 6))), jnp.asarray(random.integers(0, 7, (6, 3)))
        ours, plain = (
            quick_jit(jax.grad(lambda table, rows_of=rows_of: (rows_of(table, ids) ** 3).sum()))(table)
            for rows_of in (rows_by, lambda table, ids: table[ids])
        )
        np.testing.assert_allclose(ours, plain, rtol=1e-12)


@every_shape
def test_named_arrays_are_the_network(cell, layers, embedding):
    network, other = make(cell, layers, embedding), make(cell, layers, embedding, seed=1)
    named = named_arrays(network)
    of_the_cell = set(network.layers[-1].kernel_names) | set(network.layers[-1].vector_names)
    assert {f"layers.{layers - 1}.{name}" for name in of_the_cell} < set(named)
    assert ("embedding" in named) == bool(embedding)
    np.testing.assert_array_equal(run(with_arrays(other, named), *window())[0], run(network, *window())[0])


def test_a_network_is_reproducible_from_its_seed():
    first, again, other = (named_arrays(make.__wrapped__(seed=seed)) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["head_kernel"] == other["head_kernel"]).all()


def test_options_of_the_cells_are_those_of_the_configuration():
    for field in dataclasses.fields(ModelConfig):
        for cell in field.metadata["cells"] and CELLS:
            if field.name == "weight_drop":
                has_it = bool(CELLS[cell]().kernels(4, 8))
            else:
                has_it = field.name in {option.name for option in dataclasses.fields(CELLS[cell])}
            assert has_it == (cell in field.metadata["cells"]), (cell, field.name)


def test_residual_layers_add_their_input():
    config = ModelConfig(cell="gru", num_layers=2, hidden_size=8, embedding_size=6)
    plain, residual = (create(dataclasses.replace(config, residual=flag), V, 0) for flag in (False, True))
    inputs, resets = window()
    carry, table = plain.initial_carry(B), residual.first_projections("float32")
    (first, second), below = residual.layers, residual.first_projections("float32")[inputs]
    start = jnp.broadcast_to(first.bias[...], below.shape)
    below = jnp.where(resets[..., None], start, below)
    blocks = recurrence.blocks_of(first.cell, below)
    below, _ = recurrence.run(first.cell, first.weights, blocks, carry[0], resets, "float32")
    blocks = second.project_window(below, "float32")
    above, _ = recurrence.run(second.cell, second.weights, blocks, carry[1], resets, "float32")
    logits, after = residual(inputs, resets, carry)
    np.testing.assert_allclose(logits, residual.head(above + below, "float32"), rtol=1e-4, atol=1e-5)
    assert not np.allclose(logits, plain(inputs, resets, carry)[0])
    one, _ = residual.step(table, jnp.where(resets[0], V, inputs[0]), carry, "float32")
    np.testing.assert_allclose(one, logits[0], rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(carry)


@pytest.mark.parametrize("cell", ["lstm-peephole", "mogrifier-lstm", "sru", "mingru"])
def test_residual_steps_are_the_window(cell):
    network = create(ModelConfig(cell=cell, num_layers=3, hidden_size=8, embedding_size=6, residual=True), V, 0)
    whole, steps = (jax.tree.leaves(how(network, *window())) for how in (run, quick_jit(stepwise)))
    for found, wanted in zip(steps, whole, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@partial(quick_jit, static_argnums=4)
def dropped(
    network: nw.Network, inputs: jax.Array, resets: jax.Array, key: jax.Array | None, dropout: Dropout
) -> jax.Array:
    """The logits of a window with dropout."""
    return network(inputs, resets, network.initial_carry(B), dropout=dropout, key=key)[0]


def test_variational_dropout_drops_the_same_units_throughout():
    values = drop(jnp.ones((50, 4, 32)), 0.5, jax.random.key(0), (4, 32))
    assert (values == values[:1]).all() and 0.3 < float((values == 0).mean()) < 0.7
    seeing = make(layers=2, embedding=6)
    seeing = with_arrays(seeing, {**named_arrays(seeing), "head_kernel": jnp.eye(8, V)})  # its logits are the units
    (inputs, resets), key = window(), jax.random.key(1)
    units = (dropped(seeing, inputs, resets, key, Dropout(0.5, same))[..., :8] for same in (False, True))
    one, other = (np.asarray(array)[1:] == 0 for array in units)
    shown = ~np.asarray(resets)[1:]  # after a reset the state is zero anyhow
    assert not (one == one[0])[shown].all()
    assert (other == other[0])[shown].all() and 0 < other[0].sum() < other[0].size


@pytest.mark.parametrize("cell", [cell for cell in CELLS if CELLS[cell]().kernels(4, 8)])
def test_only_what_multiplies_the_state_is_dropped(cell):
    (layer,) = make(cell, 1, 6).layers
    kernels = layer.cell.kernels(6, 8)
    ones = layer.weights._replace(kernels=jax.tree.map(jnp.ones_like, layer.weights.kernels))
    drop = quick_jit(lambda weights: nw._drop_weights(weights, kernels, 0.5, jax.random.key(0)).kernels)
    found = {name: np.asarray(dropped) for name, dropped in drop(ones).items()}
    for name, kernel in kernels.items():
        kept, recurrent = np.split(found[name], [kernel.sees_state_from])
        assert (kept == 1).all()
        assert not recurrent.size or 0.3 < float((recurrent == 0).mean()) < 0.7
    assert any((found[name] == 0).any() for name in kernels)


def test_what_is_kept_of_the_weights_makes_up_for_what_is_dropped():
    (layer,) = make("lstm", 1, 6).layers
    ones = layer.weights._replace(kernels=jax.tree.map(jnp.ones_like, layer.weights.kernels))
    (found,) = nw._drop_weights(ones, layer.cell.kernels(6, 8), 0.25, jax.random.key(0)).kernels.values()
    assert set(np.unique(found)) == {np.float32(0), np.float32(1) / np.float32(0.75)}


def test_every_layer_drops_units_and_weights(monkeypatch):
    layers, (inputs, resets) = 3, window()
    units, weights, drop_weights = list[float](), list[float](), nw._drop_weights
    monkeypatch.setattr(nw, "drop", lambda values, rate, key, shape=None: units.append(rate) or values)
    monkeypatch.setattr(nw, "_drop_weights", lambda *given: weights.append(given[2]) or drop_weights(*given))
    dropped(make(layers=layers), inputs, resets, jax.random.key(0), Dropout(0.5, weights=0.25))
    assert (weights, sorted(units)) == ([0.25] * layers, [0.25] * layers + [0.5] * layers)


def test_the_gate_that_forgets_is_open_at_first():
    for cell, gates in (("lstm", [0, 1, 0, 0]), ("gru", [0, 0, 0])):
        (layer,) = make(cell).layers
        np.testing.assert_array_equal(layer.bias[...], np.repeat(gates, 8))


@pytest.mark.parametrize("cell", ["lstm", "mogrifier-lstm"])
def test_dropped_weights_are_zeros_in_the_recurrent_matrices(cell):
    network, (inputs, resets) = make(cell, 1, 6), window()
    plain, key = run(network, inputs, resets)[0], jax.random.key(1)
    first, again = (dropped(network, inputs, resets, key, Dropout(weights=0.5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, plain)
    # The first input is zero and leaves the state so: the second is read from nothing too, and sees no dropped weight.
    assert (plain[1] != plain[0]).all()
    np.testing.assert_allclose(first[:2], plain[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_keeps_the_mean(rate):
    values = drop(jnp.ones(200_000), rate, jax.random.key(0))
    assert float((values == 0).mean()) == pytest.approx(rate, abs=0.01)
    assert float(values.mean()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("rate", [0.001, 0.998, 0.999, 0.99999])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_drop_at_the_ends_of_its_range(rate, dtype):
    values = drop(jnp.ones(200_000, dtype), rate, jax.random.key(0))
    assert str(values.dtype) == dtype and bool(jnp.isfinite(values).all())
    assert float((values == 0).mean()) == pytest.approx(rate, abs=0.005)


def test_dropout_needs_a_key_and_differs_by_key():
    network, (inputs, resets) = make(layers=2), window()
    plain = dropped(network, inputs, resets, None, Dropout(0.5))
    np.testing.assert_array_equal(plain, run(network, inputs, resets)[0])
    one, two = (dropped(network, inputs, resets, jax.random.key(k), Dropout(0.5)) for k in (1, 2))
    assert not (one == two).all() and not (one == plain).all()


def test_exact_matrices_are_not_rounded():
    rounded = named_arrays(nw.rounded(make("mogrifier-lstm", 2, 6), jnp.dtype("bfloat16")))
    exact = {name.split(".")[-1] for name, array in rounded.items() if array.ndim == 2 and array.dtype == jnp.float32}
    assert exact == {f"round_{r}_{way}" for r in range(1, 6) for way in ("down", "up")}
    assert rounded["head_kernel"].dtype == jnp.bfloat16 and rounded["head_bias"].dtype == jnp.float32


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(("cell", "precision"), [("lstm", "float32"), ("lstm", "bfloat16"), ("minlstm", "bfloat16")])
def test_the_gradient_lowers_for_accelerators(platform, cell, precision):
    network, (inputs, resets) = make(cell, layers=2, embedding=6), window()
    leaves, structure = jax.tree.flatten(network)

    @jax.jit
    def gradient(leaves: list, inputs: jax.Array, resets: jax.Array) -> list:
        def loss(network: nw.Network) -> jax.Array:
            return network(inputs, resets, network.initial_carry(B), precision=precision)[0].sum()

        return jax.tree.leaves(jax.grad(loss)(jax.tree.unflatten(structure, leaves)))

    assert export.export(gradient, platforms=[platform])(leaves, inputs, resets).platforms == (platform,)


@pytest.mark.parametrize(("cell", "embedding"), [("lstm", 0), *((cell, 6) for cell in CELLS)])
def test_every_cell_learns_a_short_text_by_heart(cell, embedding):
    # "abcabdabe..." needs a memory: what follows "ab" depends on what came three characters before.
    text = jnp.asarray([2, 3, 4, 2, 3, 5, 2, 3, 6, 7] * 4, jnp.int32)[:, None]
    resets = jnp.zeros(text.shape, bool).at[0].set(True)
    network = create(ModelConfig(cell=cell, num_layers=1, hidden_size=32, embedding_size=embedding), V, 0)
    optimizer = optax.adam(0.02)

    def loss(network: nw.Network) -> jax.Array:
        inputs = jnp.concatenate([jnp.zeros_like(text[:1]), text[:-1]])
        logits, _ = network(inputs, resets, network.initial_carry(1))
        return optax.softmax_cross_entropy_with_integer_labels(logits, text).mean()

    @quick_jit
    def learn(network: nw.Network) -> jax.Array:
        def update(pair: tuple, _: None) -> tuple:
            network, state = pair
            here, gradient = jax.value_and_grad(loss)(network)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(network, updates), state), here

        return jax.lax.scan(update, (network, optimizer.init(network)), None, length=200)[1]

    with jax.numpy_dtype_promotion("standard"):  # Optax's adam mixes its integer count with floats
        losses = learn(network)
    assert losses[0] > 1.5 and losses[-1] < 0.01
