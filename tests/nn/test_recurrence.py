"""Every cell times a few properties: its equations, its gradients, its time."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import Hand, logistic
from flax import linen, nnx

from charrnn.config import ModelConfig
from charrnn.nn import layout, linear, recurrence
from charrnn.nn.arrays import sigmoid
from charrnn.nn.cells import CELLS, LinearCell, base, make_cell
from charrnn.nn.recurrence import LookUp, Weights

T, B, H, E = 8, 3, 5, 4
NO_RESETS = np.zeros((T, B), bool)

every_cell = pytest.mark.parametrize("name", CELLS)
# Compiling is most of these tests' time, and they are about the formulas: once a cell, and not for speed.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def window(cell, weights, inputs, state, resets, precision):
    """`recurrence.run` of inputs side by side, or of what to look up."""
    source = inputs if isinstance(inputs, LookUp) else recurrence.blocks_of(cell, inputs)
    return recurrence.run(cell, weights, source, state, resets, precision)


def window_in_columns(cell, weights, inputs, state, resets, precision):
    """The same with states as columns, as those of wide networks are."""
    assert cell.elementwise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_FEWEST_ROWS", B)
        patch.setattr(layout, "_FEWEST_UNITS", H)
        return window(cell, weights, inputs, state, resets, precision)


run = quick_jit(window, static_argnums=(0, 5))
run_in_columns = quick_jit(window_in_columns, static_argnums=(0, 5))
with_columns = pytest.mark.parametrize("name", [name for name in CELLS if CELLS[name].elementwise])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(name: str, dtype: type = np.float64, **options: int) -> tuple:
    """A cell with random weights, inputs, a state, and some resets."""
    cell, random = make_cell(ModelConfig(cell=name, **options)), np.random.default_rng(7)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (random.normal(size=shape) * scale).astype(dtype)

    def draw_short(*shape: int) -> np.ndarray:
        """Numbers that bfloat16 holds."""
        return np.asarray(jnp.asarray(draw(*shape), jnp.bfloat16).astype(dtype))

    kernels = {name: draw(k.rows, sum(k.blocks), scale=k.rows**-0.5) for name, k in cell.kernels(E, H).items()}
    vectors = {name: draw(len(values)) for name, values in cell.vectors(H).items()}
    inputs = draw_short(T, B, cell.input_gates * H or E)
    state = tuple(draw(B, H) for _ in range(cell.state_parts))
    resets = np.zeros((T, B), bool)
    resets[3, 0] = resets[6, 2] = resets[0, 1] = True
    return cell, *jax.tree.map(jnp.asarray, (Weights(kernels, vectors), inputs, state, resets))


def by_hand(name, cell, weights, inputs, state, resets):
    """The whole recurrence as a loop over `Hand`: outputs and the last state."""
    kernels, vectors = (jax.tree.map(np.asarray, part) for part in weights)
    shapes = cell.kernels(E, H)
    split = {key: np.split(kernels[key], np.cumsum(shapes[key].blocks)[:-1], -1) for key in shapes}
    step, state, outputs = getattr(Hand, name.replace("-", "_")), jax.tree.map(np.asarray, state), []
    for t in range(T):
        state = tuple(np.where(np.asarray(resets)[t][:, None], 0, part) for part in state)
        state = step(np.split(np.asarray(inputs[t]), cell.input_gates or 1, -1), split, vectors, *state)
        outputs.append(state[0])
    return np.stack(outputs), state


def plain_loop(cell, weights, inputs, state, resets, precision):
    """The recurrence as a loop over `step` and nothing else, for autodiff."""

    def body(state, here):
        state = tuple(jnp.where(here[1][:, None], 0.0, part) for part in state)
        state, _ = recurrence.step(cell, weights, here[0], state, precision)
        return state, state[0]

    final, outputs = jax.lax.scan(body, state, (inputs, resets))
    return outputs, final


@every_cell
def test_outputs_are_the_equations(name):
    cell, weights, inputs, state, resets = problem(name)
    outputs, final = run(cell, weights, inputs, state, resets, "float64")
    expected, last = by_hand(name, cell, weights, inputs, state, resets)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11)
    for part, wanted in zip(final, last, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-11)


@with_columns
def test_columns_are_rows(name):
    cell, weights, inputs, state, resets = problem(name)
    outputs, final = run_in_columns(cell, weights, inputs, state, resets, "float64")
    expected, last = run(cell, weights, inputs, state, resets, "float64")
    np.testing.assert_allclose(outputs, expected, rtol=1e-11)
    for part, wanted in zip(final, last, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-11)


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_the_mogrifier_with_few_rounds_is_its_equations(rounds):
    cell, weights, inputs, state, resets = problem("mogrifier-lstm", mogrifier_rounds=rounds)
    outputs, _ = run(cell, weights, inputs, state, resets, "float64")
    expected, _ = by_hand("mogrifier_lstm", cell, weights, inputs, state, resets)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11)


def flax_lstm(kernel: jax.Array) -> nnx.Module:
    zeros = {f"{part}_init": nnx.initializers.zeros for part in ("kernel", "recurrent_kernel", "bias")}
    cell = nnx.OptimizedLSTMCell(4 * H, H, param_dtype=jnp.float32, rngs=nnx.Rngs(0), **zeros)
    # Flax orders its gates i, f, g, o too; its input kernel becomes the identity here.
    cell.dense_i.kernel[...] = jnp.eye(4 * H, dtype=jnp.float32)
    cell.dense_h.kernel[...], cell.dense_h.bias[...] = kernel, jnp.zeros(4 * H, jnp.float32)
    return cell


def test_lstm_is_flax_own():
    cell, weights, inputs, state, _ = problem("lstm", np.float32)
    flax, (h, c) = flax_lstm(weights.kernels["recurrent_kernel"]), state
    with jax.numpy_rank_promotion("allow"):
        (c, h), _ = quick_jit(lambda flax, inputs, state: jax.lax.scan(flax, state, inputs))(flax, inputs, (c, h))
    ours = run(cell, weights, inputs, state, NO_RESETS, "float32")[1]
    np.testing.assert_allclose(ours[0], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours[1], c, rtol=1e-4, atol=1e-6)


def flax_parameters(name: str, weights: Weights) -> tuple[linen.Module, dict]:
    """Flax's cell with our weights; the input's kernels pick our blocks of the projected input."""
    picked = jnp.split(jnp.eye(CELLS[name].input_gates * H, dtype=jnp.float32), CELLS[name].input_gates, -1)
    zeros = jnp.zeros(H, jnp.float32)
    dense = [{"kernel": picked[k], "bias": zeros} for k in range(len(picked))]
    blocks = jnp.split(weights.kernels["recurrent_kernel"], weights.kernels["recurrent_kernel"].shape[-1] // H, -1)
    match name:
        case "rnn":
            return linen.SimpleCell(H), {"i": dense[0], "h": {"kernel": blocks[0]}}
        case "mgu":
            inputs = {"if": {"kernel": -picked[0], "bias": zeros}, "in": dense[1]}
            hn = {"kernel": weights.kernels["candidate_kernel"], "bias": zeros}
            return linen.MGUCell(H), inputs | {"hf": {"kernel": -weights.kernels["recurrent_kernel"]}, "hn": hn}
        case "gru-simple":
            inputs = {"if": dense[0], "in": dense[1]}
            recurrent = {"hf": {"kernel": blocks[0]}, "hn": {"kernel": blocks[1]}}
            return linen.MGUCell(H, reset_gate=False), inputs | recurrent
        case _:
            inputs = {"ir": dense[0], "iz": dense[1], "in": dense[2]}
            hn = {"kernel": blocks[2], "bias": weights.vectors["candidate_bias"]}
            return linen.GRUCell(H), inputs | {"hr": {"kernel": blocks[0]}, "hz": {"kernel": blocks[1]}, "hn": hn}


@pytest.mark.parametrize("name", ["rnn", "gru-reset-after", "gru-simple", "mgu"])
def test_cells_are_flax_own(name):
    # Flax's GRU resets after the product; its MGU without a reset is our GRU with the update gate alone.
    # With one, its gate keeps where Zhou's admits, and resets after the product: they agree, the gate
    # negated, where the candidate sees no state.
    cell, weights, inputs, (h,), _ = problem(name, np.float32)
    if name == "mgu":
        weights = weights._replace(kernels={**weights.kernels, "candidate_kernel": jnp.zeros((H, H), jnp.float32)})
    ours = run(cell, weights, inputs, (h,), NO_RESETS, "float32")[1]
    flax, parameters = flax_parameters(name, weights)
    with jax.numpy_rank_promotion("allow"):
        h, _ = quick_jit(partial(jax.lax.scan, lambda h, x: flax.apply({"params": parameters}, h, x)))(h, inputs)
    np.testing.assert_allclose(ours[0], h, rtol=1e-4, atol=1e-6)


@partial(quick_jit, static_argnums=0)
def scanned(scan: Callable, *arrays: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """What a linear scan gives, and the gradients of its squares' sum."""

    def scalar(*arrays):
        outputs = scan(*arrays)
        return (outputs**2).sum(), outputs

    found, outputs = jax.grad(scalar, argnums=(0, 1, 2), has_aux=True)(*arrays)
    return outputs, found


@pytest.mark.parametrize("name", [name for name in CELLS if issubclass(CELLS[name], LinearCell)])
def test_all_at_once_is_one_by_one(name):
    cell, _, inputs, (h,), _ = problem(name)
    a, b = cell.coefficients(tuple(jnp.split(inputs, cell.input_gates, -1)))
    a = a.at[3, 0].set(0.0)  # a reset
    outputs, plain = scanned(linear.parallel, a, b, h)
    np.testing.assert_allclose(outputs, quick_jit(linear.sequential)(a, b, h), rtol=1e-12)
    for found, expected in zip(scanned(linear.linear_scan, a, b, h)[1], plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@partial(quick_jit, static_argnums=(0, 1, 2))
def gradients(loop, cell, precision, weights, inputs, state, resets, output_weights, final_weight):
    """The weighted sum of a loop's outputs and of its last state's squares; its gradients by weights, inputs, state."""

    def scalar(weights, inputs, state):
        outputs, final = loop(cell, weights, inputs, state, resets, precision)
        return (outputs * output_weights).sum() + final_weight * sum((part**2).sum() for part in final)

    return jax.value_and_grad(scalar, argnums=(0, 1, 2))(weights, inputs, state)


def gradients_of(loop: Callable, name: str, precision: str, dtype: type = np.float64) -> list[np.ndarray]:
    """The gradients of a problem, every output and the last state counting."""
    cell, weights, inputs, state, resets = problem(name, dtype)
    if precision == "bfloat16":  # as the layers hand them over
        inputs = inputs.astype(jnp.bfloat16)
    output_weights = (np.arange(1, T * B * H + 1).reshape(T, B, H) / (T * B * H)).astype(dtype)
    found = gradients(loop, cell, precision, weights, inputs, state, resets, output_weights, dtype(1))[1]
    return [np.asarray(gradient) for gradient in jax.tree.leaves(found)]


@cache
def plain_gradients(name: str) -> list[np.ndarray]:
    """Those of the plain loop in float64."""
    return gradients_of(plain_loop, name, "float64")


@every_cell
@pytest.mark.parametrize("bias", [-60.0, 60.0])
def test_gates_wide_open_or_shut_give_finite_numbers(name, bias):
    cell, weights, inputs, state, resets = problem(name, np.float32)
    shifted = inputs + jnp.asarray(bias, inputs.dtype) if name != "rnn-relu" else inputs
    ones, nothing = np.ones((T, B, H), np.float32), np.float32(0)
    found = gradients(window, cell, "float32", weights, shifted, state, resets, ones, nothing)
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(found))


@every_cell
def test_gradients_are_autodiff_of_the_plain_loop(name):
    ours = gradients_of(window, name, "float64")
    for found, expected in zip(ours, plain_gradients(name), strict=True):
        assert np.linalg.norm(found - expected) <= 1e-10 * np.linalg.norm(expected)


@with_columns
def test_gradients_of_columns_are_autodiff_of_the_plain_loop(name):
    ours = gradients_of(window_in_columns, name, "float64")
    for found, expected in zip(ours, plain_gradients(name), strict=True):
        assert np.linalg.norm(found - expected) <= 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("loop", "name"), [(window, name) for name in CELLS] + [(window_in_columns, name) for name in ("lstm", "gru")]
)
def test_gradients_in_bfloat16_are_near(loop, name):
    ours = gradients_of(loop, name, "bfloat16", np.float32)
    for found, expected in zip(ours, plain_gradients(name), strict=True):
        assert np.linalg.norm(found - expected) <= 1e-2 * np.linalg.norm(expected)


# Whose inputs are added to a product, handed to the step in part, all of them, the linear's and the input itself.
LOOKED_UP = [(name, window) for name in ("lstm", "gru-reset-after", "sru", "minlstm", "mogrifier-lstm")]


@pytest.mark.parametrize(("name", "loop"), LOOKED_UP + [(name, window_in_columns) for name, _ in LOOKED_UP[:3]])
def test_inputs_that_are_looked_up_are_rows_of_their_table(name, loop):
    cell, weights, inputs, state, resets = problem(name)
    table, ids = inputs.reshape(T * B, -1), np.random.default_rng(1).integers(0, T * B, (T, B))

    @quick_jit
    def both(table):
        def squares(inputs):
            outputs, _ = loop(cell, weights, inputs, state, resets, "float64")
            return (outputs**2).sum(), outputs

        looked_up = jax.grad(lambda table: squares(LookUp(table, ids)), has_aux=True)(table)
        return looked_up, jax.grad(lambda table: squares(table[ids]), has_aux=True)(table)

    for found, expected in zip(*both(table), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@every_cell
def test_chunks_with_carried_state_are_the_whole(name):
    cell, weights, inputs, state, resets = problem(name)
    whole, final = run(cell, weights, inputs, state, resets, "float64")
    pieces = []
    for begin, end in ((0, 1), (1, 4), (4, T)):
        out, state = run(cell, weights, inputs[begin:end], state, resets[begin:end], "float64")
        pieces.append(out)
    np.testing.assert_allclose(jnp.concatenate(pieces), whole, rtol=1e-12)
    for part, wanted in zip(state, final, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-12)


@every_cell
@pytest.mark.parametrize(("row", "start"), [(0, 3), (1, 0), (2, 6)])
def test_a_reset_is_a_new_sequence(name, row, start):
    cell, weights, inputs, state, resets = problem(name)
    outputs, _ = run(cell, weights, inputs, state, resets, "float64")
    zero, to_the_front = tuple(jnp.zeros_like(part) for part in state), jnp.roll(inputs, -start, 0)
    apart, _ = run(cell, weights, to_the_front, zero, NO_RESETS, "float64")
    np.testing.assert_allclose(outputs[start:, row], apart[: T - start, row], rtol=1e-12)


@every_cell
def test_no_gradient_crosses_a_reset(name):
    cell, weights, inputs, state, resets = problem(name)
    after = np.zeros((T, B, H))
    after[3:, 0] = 1  # what comes after the reset, and no more of the last state than that
    arguments = (weights, inputs, state, resets, after, np.float64(0))
    _, (_, inputs_gradient, state_gradient) = gradients(window, cell, "float64", *arguments)
    assert not inputs_gradient[:3].any() and inputs_gradient[3:, 0].any()
    assert not any(part.any() for part in state_gradient)


@every_cell
@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "float32"), ("float32", "bfloat16"), ("float64", "float64")]
)
def test_the_state_keeps_its_type(name, dtype, precision):
    cell, weights, inputs, state, resets = problem(name, np.dtype(dtype).type)
    outputs, final = jax.eval_shape(lambda *arrays: window(cell, *arrays, precision), weights, inputs, state, resets)
    assert {str(array.dtype) for array in (outputs, *final)} == {dtype}


def test_the_cell_that_contributing_shows_is_one():
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    cell_code, hand_code, *_ = (block.split("```")[0] for block in text.split("```python")[1:])
    names = {**vars(base), "dataclass": dataclasses.dataclass, "ClassVar": ClassVar, "jnp": jnp, "sigmoid": sigmoid}
    names["logistic"], names["tanh"] = logistic, np.tanh
    exec(f"{cell_code}\nclass Hand:\n{hand_code}", names)
    cell, random = names["BlindGRU"](), np.random.default_rng(0)
    kernel, inputs = random.normal(size=(H, H)), random.normal(size=(T, B, 2 * H))
    weights, h = Weights({"recurrent_kernel": jnp.asarray(kernel)}, {}), np.zeros((B, H))
    outputs, _ = window(cell, weights, jnp.asarray(inputs), (jnp.asarray(h),), NO_RESETS, "float64")
    for t in range(T):
        blocks = np.split(inputs[t], 2, -1)
        (h,) = names["Hand"].blind_gru(blocks, {"recurrent_kernel": [kernel]}, {}, h)
        np.testing.assert_allclose(outputs[t], h, rtol=1e-11)
    np.testing.assert_array_equal(dataclasses.replace(cell, forget_bias=2.0).initial_bias(1), [2.0, 0.0])
