"""Every cell times a few properties: its equations, its gradients, its time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from charrnn.nn import recurrence
from charrnn.nn.cells import make_cell

T, B, H = 13, 3, 5


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(x: np.ndarray, kernel: np.ndarray, state: tuple) -> tuple:
    h, c = state
    i, f, g, o = np.split(x + h @ kernel, 4, -1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def gru_by_hand(x: np.ndarray, kernel: np.ndarray, state: tuple) -> tuple:
    (h,) = state
    size = h.shape[-1]
    r, z = np.split(_sigmoid(x[:, : 2 * size] + h @ kernel[:, : 2 * size]), 2, -1)
    n = np.tanh(x[:, 2 * size :] + (r * h) @ kernel[:, 2 * size :])
    return (z * h + (1 - z) * n,)


CELLS: dict[str, Callable] = {"lstm": lstm_by_hand, "gru": gru_by_hand}
every_cell = pytest.mark.parametrize("name", CELLS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(name: str, dtype: type = np.float64) -> tuple:
    """A cell with random weights, projected inputs, a state, and some resets."""
    cell, random = make_cell(name, 1.0), np.random.default_rng(7)
    kernel = random.normal(size=(H, cell.gates * H)).astype(dtype) * 0.5
    projected = random.normal(size=(T, B, cell.gates * H)).astype(dtype)
    state = tuple(random.normal(size=(B, H)).astype(dtype) for _ in range(cell.state_parts))
    resets = np.zeros((T, B), bool)
    resets[4, 0] = resets[9, 2] = resets[0, 1] = True
    return cell, *jax.tree.map(jnp.asarray, (kernel, projected, state, resets))


def plain_loop(cell, kernel, projected, state, resets, precision="float64"):
    """The recurrence as a Python loop over `step`, for autodiff."""
    outputs = []
    for t in range(projected.shape[0]):
        state = tuple(jnp.where(resets[t][:, None], 0.0, part) for part in state)
        state, _ = recurrence.step(cell, kernel, projected[t], state, precision)
        outputs.append(state[0])
    return jnp.stack(outputs), state


@every_cell
def test_outputs_are_the_equations(name):
    cell, kernel, projected, state, resets = problem(name)
    outputs, final = recurrence.run(cell, kernel, projected, state, resets, "float64")
    expected = jax.tree.map(np.asarray, state)
    for t in range(T):
        expected = tuple(np.where(np.asarray(resets)[t][:, None], 0, part) for part in expected)
        expected = CELLS[name](np.asarray(projected[t]), np.asarray(kernel), expected)
        np.testing.assert_allclose(outputs[t], expected[0], rtol=1e-12)
    for part, wanted in zip(final, expected, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-12)


def test_lstm_is_flax_own():
    cell, kernel, projected, state, _ = problem("lstm", np.float32)
    flax = nnx.OptimizedLSTMCell(4 * H, H, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    # Flax orders its gates i, f, g, o too; its input kernel becomes the identity here.
    flax.dense_i.kernel[...] = jnp.eye(4 * H, dtype=jnp.float32)
    flax.dense_h.kernel[...], flax.dense_h.bias[...] = kernel, jnp.zeros(4 * H, jnp.float32)
    h, c = state
    with jax.numpy_rank_promotion("allow"):
        for t in range(T):
            (c, h), _ = flax((c, h), projected[t])
    ours = recurrence.run(cell, kernel, projected, state, jnp.zeros((T, B), bool), "float32")[1]
    np.testing.assert_allclose(ours[0], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours[1], c, rtol=1e-4, atol=1e-6)


def test_gru_is_flax_own_where_the_equations_agree():
    # Flax resets after the candidate's product, as cuDNN does: r * (h U_n). Where U_n is diagonal
    # that equals our (r * h) U_n; elsewhere the two are different cells.
    cell, kernel, projected, state, _ = problem("gru", np.float32)
    diagonal = jnp.tile(jnp.eye(H, dtype=jnp.float32), (1, 3))
    kernel = jnp.where(jnp.arange(3 * H)[None] < 2 * H, kernel, kernel * diagonal)
    flax = nnx.GRUCell(3 * H, H, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    flax.dense_i.kernel[...], flax.dense_i.bias[...] = jnp.eye(3 * H, dtype=jnp.float32), jnp.zeros(3 * H, jnp.float32)
    flax.dense_h.kernel[...] = kernel
    (h,) = state
    with jax.numpy_rank_promotion("allow"):
        for t in range(T):
            h, _ = flax(h, projected[t])
    ours = recurrence.run(cell, kernel, projected, state, jnp.zeros((T, B), bool), "float32")[1]
    np.testing.assert_allclose(ours[0], h, rtol=1e-4, atol=1e-6)


def gradients(run: Callable, kernel, projected, state):
    def scalar(kernel, projected, state):
        outputs, final = run(kernel, projected, state)
        weights = jnp.arange(1, outputs.size + 1, dtype=outputs.dtype).reshape(outputs.shape) / outputs.size
        return (outputs * weights).sum() + sum((part**2).sum() for part in final)

    return jax.tree.leaves(jax.grad(scalar, argnums=(0, 1, 2))(kernel, projected, state))


@every_cell
def test_gradients_are_autodiff_of_the_plain_loop(name):
    cell, kernel, projected, state, resets = problem(name)
    ours = gradients(lambda *a: recurrence.run(cell, *a, resets, "float64"), kernel, projected, state)
    plain = gradients(lambda *a: plain_loop(cell, *a, resets), kernel, projected, state)
    for found, expected in zip(ours, plain, strict=True):
        assert float(jnp.linalg.norm(found - expected)) < 1e-10 * float(jnp.linalg.norm(expected))


@every_cell
def test_gradients_in_bfloat16_are_near(name):
    cell, kernel, projected, state, resets = problem(name, np.float32)
    ours = gradients(lambda *a: recurrence.run(cell, *a, resets, "bfloat16"), kernel, projected, state)
    plain = gradients(lambda *a: plain_loop(cell, *a, resets, "float32"), kernel, projected, state)
    for found, expected in zip(ours, plain, strict=True):
        assert float(jnp.linalg.norm(found - expected)) < 1e-2 * float(jnp.linalg.norm(expected))


@every_cell
def test_chunks_with_carried_state_are_the_whole(name):
    cell, kernel, projected, state, resets = problem(name)
    whole, final = recurrence.run(cell, kernel, projected, state, resets, "float64")
    pieces = []
    for begin, end in ((0, 1), (1, 6), (6, T)):
        out, state = recurrence.run(cell, kernel, projected[begin:end], state, resets[begin:end], "float64")
        pieces.append(out)
    np.testing.assert_allclose(jnp.concatenate(pieces), whole, rtol=1e-12)
    for part, wanted in zip(state, final, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-12)


@every_cell
@pytest.mark.parametrize(("row", "start"), [(0, 4), (1, 0), (2, 9)])
def test_a_reset_is_a_new_sequence(name, row, start):
    cell, kernel, projected, state, resets = problem(name)
    outputs, _ = recurrence.run(cell, kernel, projected, state, resets, "float64")
    zero = tuple(jnp.zeros_like(part) for part in state)
    apart, _ = recurrence.run(cell, kernel, projected[start:], zero, jnp.zeros((T - start, B), bool), "float64")
    np.testing.assert_allclose(outputs[start:, row], apart[:, row], rtol=1e-12)


@every_cell
def test_no_gradient_crosses_a_reset(name):
    cell, kernel, projected, state, resets = problem(name)

    def after(projected: jax.Array, state: tuple) -> jax.Array:
        return recurrence.run(cell, kernel, projected, state, resets, "float64")[0][4:, 0].sum()

    projected_gradient, state_gradient = jax.grad(after, argnums=(0, 1))(projected, state)
    assert not projected_gradient[:4].any() and projected_gradient[4:, 0].any(-1).all()
    assert not any(part.any() for part in state_gradient)


@every_cell
@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "float32"), ("float32", "bfloat16"), ("float64", "float64")]
)
def test_the_state_keeps_its_type(name, dtype, precision):
    cell, kernel, projected, state, resets = problem(name, np.dtype(dtype).type)
    outputs, final = recurrence.run(cell, kernel, projected, state, resets, precision)
    assert {str(array.dtype) for array in (outputs, *final)} == {dtype}
