"""The update rules: which rule moves what, and what Muon makes of a matrix."""

import itertools
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from charrnn.config import ModelConfig, Optimizer, TrainingConfig
from charrnn.nn.network import create, named_arrays, with_arrays
from charrnn.training.muon import orthogonal
from charrnn.training.optimizer import learning_rate, learning_rate_without_budget, make_optimizer

RANDOM = np.random.default_rng(5)


def with_singular_values(rows: int, columns: int, values: np.ndarray) -> np.ndarray:
    """A random matrix of these singular values."""
    u, _, v = np.linalg.svd(RANDOM.normal(size=(rows, columns)), full_matrices=False)
    return ((u * values) @ v).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
@pytest.mark.parametrize(("precision", "scale"), [("float32", 1e-3), ("float32", 100.0), ("bfloat16", 1.0)])
def test_all_directions_become_as_long(shape: tuple[int, int], precision: str, scale: float) -> None:
    matrix = with_singular_values(*shape, np.geomspace(0.05, 1, min(shape))) * np.float32(scale)
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    along = np.diag(u.T @ np.asarray(orthogonal(jnp.asarray(matrix), precision)) @ v.T)
    assert along.min() > 0.65 and along.max() < 1.25


def test_nothing_stays_nothing() -> None:
    assert not np.asarray(orthogonal(jnp.zeros((4, 4)), "float32")).any()


@pytest.mark.parametrize(("cell", "kernel"), [("lstm", "recurrent_kernel"), ("mogrifier-lstm", "kernel")])
def test_each_gate_is_made_orthogonal_by_itself(cell: str, kernel: str) -> None:
    config = ModelConfig(cell=cell, hidden_size=8, embedding_size=4)  # type: ignore[arg-type]
    gradients = jax.tree.map(
        lambda array: np.zeros(array.shape, np.float32), jax.eval_shape(lambda: create(config, 11, 0))
    )
    rows = named_arrays(gradients)[f"layers.0.{kernel}"].shape[0]
    gates = [with_singular_values(rows, 8, np.geomspace(0.1, 1, 8)) * np.float32(10.0**k) for k in range(4)]
    gradients = with_arrays(gradients, named_arrays(gradients) | {f"layers.0.{kernel}": np.concatenate(gates, -1)})
    rule = make_optimizer("muon", 0.0, 1e9)
    with jax.numpy_dtype_promotion("standard"):
        update = named_arrays(jax.jit(rule.update)(gradients, rule.init(gradients), gradients)[0])[f"layers.0.{kernel}"]
    sizes = [np.sqrt(np.square(block).mean()) for block in np.split(np.asarray(update), 4, -1)]
    np.testing.assert_allclose(sizes, sizes[0], rtol=0.1)
    assert 0.15 < sizes[0] < 0.25


def test_muon_looks_ahead() -> None:
    """Nesterov's momentum: after I and -I / 2 the running mean still points along I, and a step ahead along -I."""
    network = create(ModelConfig(hidden_size=8, embedding_size=0), 11, 0)
    rule = make_optimizer("muon", 0.0, 1e9)
    along = jax.tree.map(jnp.zeros_like, network)
    along.layers[0].recurrent_kernel[...] = jnp.tile(jnp.eye(8), 4)
    with jax.numpy_dtype_promotion("standard"):
        first, state = rule.update(along, rule.init(network), network)
        second, _ = rule.update(jax.tree.map(lambda array: -0.5 * array, along), state, network)
    diagonals = [np.diag(update.layers[0].recurrent_kernel[...][:, :8]) for update in (first, second)]
    assert (diagonals[0] > 0).all() and (diagonals[1] < 0).all()


def test_muon_moves_what_lies_between_hidden_units_and_adam_the_rest() -> None:
    network = create(ModelConfig(hidden_size=8, embedding_size=0, num_layers=2), 11, 0)
    gradients = jax.tree.map(lambda array: jnp.asarray(RANDOM.normal(size=array.shape), jnp.float32), network)
    updates: dict[str, dict[str, Any]] = {}
    for name in ("muon", "adamw"):
        rule = make_optimizer(name, 0.0, 1.0)
        with jax.numpy_dtype_promotion("standard"):
            updates[name] = named_arrays(jax.jit(rule.update)(gradients, rule.init(network), network)[0])
    other = {name for name in updates["muon"] if not np.array_equal(updates["muon"][name], updates["adamw"][name])}
    assert other == {"layers.0.recurrent_kernel", "layers.1.recurrent_kernel", "layers.1.input_kernel"}


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_rule_goes_downhill(name: str) -> None:
    network = create(ModelConfig(hidden_size=8, embedding_size=0), 11, 0)
    wanted = jax.tree.map(lambda array: array + 0.1, network)
    rule = make_optimizer(name, 0.0, 1.0)

    def distance(network: Any) -> Any:
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.square(a - b).sum(), network, wanted)))

    def step(_: Any, reached: tuple[Any, Any]) -> tuple[Any, Any]:
        network, state = reached
        updates, state = rule.update(jax.grad(distance)(network), state, network)
        return jax.tree.map(lambda weight, update: weight - 0.005 * update, network, updates), state

    @jax.jit
    def distances(network: Any) -> tuple[Any, Any]:
        return distance(network), distance(jax.lax.fori_loop(0, 20, step, (network, rule.init(network)))[0])

    with jax.numpy_dtype_promotion("standard"):
        before, after = distances(network)
    assert after < 0.7 * before


@pytest.mark.parametrize("most", [0.5, 2.0, 100.0])
def test_gradients_are_clipped_to_their_common_norm(most: float) -> None:
    network = create(ModelConfig(hidden_size=8, embedding_size=0), 11, 0)
    gradients = jax.tree.map(lambda array: jnp.asarray(RANDOM.normal(size=array.shape), jnp.float32), network)
    norm = float(optax.tree.norm(gradients))
    assert 2 < norm < 100
    rule = make_optimizer("sgd", 0.0, most)
    updates, _ = jax.jit(rule.update)(gradients, rule.init(network), network)
    kept = 1.9 * min(1.0, most / norm)  # the first of Nesterov's steps: the gradient and 0.9 of it
    for name, update in named_arrays(updates).items():
        np.testing.assert_allclose(update, kept * named_arrays(gradients)[name], rtol=1e-4)


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.25), ("muon", 0.25), ("adam", 0.0), ("sgd", 0.0)])
def test_matrices_decay_and_biases_do_not(name: str, decay: float) -> None:
    network = create(ModelConfig(hidden_size=8, embedding_size=4, num_layers=2), 11, 0)
    nothing, rule = jax.tree.map(jnp.zeros_like, network), make_optimizer(name, 0.25, 1.0)
    with jax.numpy_dtype_promotion("standard"):
        updates = named_arrays(jax.jit(rule.update)(nothing, rule.init(network), network)[0])
    for name, weights in named_arrays(network).items():
        expected = decay * weights if weights.ndim == 2 else jnp.zeros_like(weights)
        np.testing.assert_allclose(updates[name], expected, rtol=1e-6)
    assert np.asarray(named_arrays(network)["layers.0.bias"]).any()  # the forget gates' ones, which would show


@pytest.mark.parametrize(
    ("hidden", "embedding", "name", "head", "outside"),
    [(8, 0, "adamw", 2, 256 / 75), (300, 0, "adamw", 2, 4), (8, 0, "sgd", 1, 1), (8, 5, "adamw", 1, 1)],
)
def test_what_reads_and_writes_characters_learns_faster(
    hidden: int, embedding: int, name: str, head: float, outside: float
) -> None:
    config = ModelConfig(hidden_size=hidden, embedding_size=embedding, num_layers=2)
    network = jax.eval_shape(lambda: create(config, 11, 0))
    ones = jax.tree.map(lambda array: np.ones(array.shape, np.float32), network)
    rule = make_optimizer(name, 0.0, 1e9)
    with jax.numpy_dtype_promotion("standard"):
        updates = named_arrays(jax.jit(rule.update)(ones, rule.init(ones), ones)[0])
    slowest = float(updates["layers.1.input_kernel"][0, 0])
    times = {name: float(update.reshape(-1)[0]) / slowest for name, update in updates.items()}
    expected = dict.fromkeys(times, outside) | {"head_kernel": head, "layers.1.input_kernel": 1}
    expected |= {f"layers.{k}.recurrent_kernel": 1 for k in range(2)}
    assert times == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("ema", "final"), [(0.0, 0.01), (0.1, 0.4)])
def test_learning_rate_warms_up_and_decays(ema, final):
    config = TrainingConfig(learning_rate=1.0, warmup=0.1, ema=ema)
    rates = [learning_rate(config, spent) for spent in np.linspace(0, 1, 101)]
    assert rates[10] == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(rates[:11]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(final)
    assert learning_rate(TrainingConfig(learning_rate=0.5, warmup=0.0), 0.0) == 0.5


def test_the_rate_without_a_budget():
    config = TrainingConfig(learning_rate=1.0, warmup=0.05)
    rates = [learning_rate_without_budget(config, step, 0) for step in range(200)]
    assert rates == [min(1.0, (step + 1) / 100) for step in range(200)]
    assert learning_rate_without_budget(config, 500, 3) == 0.125
    assert learning_rate_without_budget(TrainingConfig(learning_rate=0.5, warmup=0.0), 0, 0) == 0.5
