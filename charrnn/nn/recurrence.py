"""Any cell over time, in one scan each way.

The input's products are done before the scan, all steps at once, and so are the weights' gradients
after it: the backward scan emits only the gates' gradients (autodiff of `lax.scan` would add into
the weights' gradient at every step). The forward scan keeps the pre-activations and the states;
the backward scan recomputes what the cell's elementwise function needs from them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from charrnn.nn.arrays import Array, State, product, storage_type
from charrnn.nn.cells import RecurrentCell


def step(cell: RecurrentCell, kernel: Array, projected: Array, state: State, precision: str) -> tuple[State, tuple]:
    """One step of a cell.

    `kernel` is `[H, G * H]`, `projected` the input's part of the pre-activations with the bias,
    `[B, G * H]`. Returns the new state and the gates' pre-activations, `G` x `[B, H]`.
    """
    inputs = jnp.split(projected.astype(state[0].dtype), cell.gates, -1)
    gates: tuple[Array, ...] = ()
    for stage, width in enumerate(cell.stages):
        operand = cell.product_input(stage, gates, state)
        recurrent = product(operand, _stage_columns(cell, kernel, stage), precision)
        here = inputs[len(gates) : len(gates) + width]
        gates += tuple(x + r for x, r in zip(here, jnp.split(recurrent, width, -1), strict=True))
    return cell.update(gates, state), gates


@partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def run(
    cell: RecurrentCell, kernel: Array, projected: Array, state: State, resets: Array, precision: str
) -> tuple[Array, State]:
    """Run a cell over a window.

    kernel: recurrent weights `[H, G * H]`. projected: `[T, B, G * H]`, the input's products and
    bias. state: before the window, parts `[B, H]`. resets: `[T, B]` bool, where the state is set to
    zero before the step. Returns the outputs `[T, B, H]` and the state after the window.
    """
    return _forward(cell, kernel, projected, state, resets, precision)[0]


def _forward(
    cell: RecurrentCell, kernel: Array, projected: Array, state: State, resets: Array, precision: str
) -> tuple[tuple[Array, State], Any]:
    # Rounded once here rather than at every step.
    rounded = kernel.astype(storage_type(precision, kernel.dtype))

    def body(state: State, inputs: tuple[Array, Array]) -> tuple[State, tuple]:
        projected_t, reset = inputs
        state, gates = step(cell, rounded, projected_t, _reset(state, reset), precision)
        return state, (state, gates)

    final, (states, gates) = lax.scan(body, state, (projected, resets))
    return (states[0], final), (kernel, projected, state, resets, states, gates)


def _backward(cell: RecurrentCell, precision: str, residuals: Any, gradients: tuple[Array, State]) -> tuple:
    kernel, projected, initial, resets, states, gates = residuals
    output_gradients, final_gradient = gradients
    rounded = kernel.astype(storage_type(precision, kernel.dtype))
    before = tuple(jnp.concatenate([first[None], rest[:-1]]) for first, rest in zip(initial, states, strict=True))

    def body(state_gradient: State, inputs: tuple) -> tuple[State, Array]:
        gates, before, output_gradient, reset = inputs
        before = _reset(before, reset)
        later = (state_gradient[0] + output_gradient, *state_gradient[1:])
        _, update_vjp = jax.vjp(cell.update, gates, before)
        gate_gradients, gradient = update_vjp(later)
        gate_gradients, gradient = _through_products(cell, rounded, gates, before, gate_gradients, gradient, precision)
        emitted = jnp.concatenate(gate_gradients, -1).astype(projected.dtype)
        return _reset(gradient, reset), emitted

    initial_gradient, projected_gradient = lax.scan(
        body, final_gradient, (gates, before, output_gradients, resets), reverse=True
    )
    kernel_gradient = _kernel_gradient(cell, gates, _reset(before, resets), projected_gradient, precision)
    return kernel_gradient.astype(kernel.dtype), projected_gradient, initial_gradient, None


run.defvjp(_forward, _backward)


def _through_products(
    cell: RecurrentCell,
    kernel: Array,
    gates: tuple[Array, ...],
    before: State,
    gate_gradients: tuple[Array, ...],
    gradient: State,
    precision: str,
) -> tuple[tuple[Array, ...], State]:
    """Carry the gates' gradients through the recurrent products, the last stage first."""
    end = cell.gates
    for stage in reversed(range(len(cell.stages))):
        start = end - cell.stages[stage]
        columns = jnp.concatenate(gate_gradients[start:end], -1)
        operand_gradient = product(columns, _stage_columns(cell, kernel, stage), precision, (-1, 1))
        _, vjp = jax.vjp(partial(cell.product_input, stage), gates, before)
        more_gates, more = vjp(operand_gradient)
        gate_gradients = jax.tree.map(jnp.add, gate_gradients, more_gates)
        gradient = jax.tree.map(jnp.add, gradient, more)
        end = start
    return gate_gradients, gradient


def _kernel_gradient(
    cell: RecurrentCell, gates: tuple[Array, ...], before: State, gate_gradients: Array, precision: str
) -> Array:
    """The recurrent weights' gradient over the whole window, one product a stage."""
    hidden_size, columns, end = before[0].shape[-1], [], 0
    for stage, width in enumerate(cell.stages):
        start, end = end, end + width
        operand = cell.product_input(stage, gates, before).reshape(-1, hidden_size)
        here = gate_gradients[..., start * hidden_size : end * hidden_size].reshape(-1, width * hidden_size)
        columns.append(product(operand.astype(here.dtype), here, precision, (0, 0)))
    return jnp.concatenate(columns, -1)


def _stage_columns(cell: RecurrentCell, kernel: Array, stage: int) -> Array:
    """The columns of the recurrent weights that a stage uses."""
    hidden_size = kernel.shape[0]
    start = sum(cell.stages[:stage]) * hidden_size
    return kernel[:, start : start + cell.stages[stage] * hidden_size]


def _reset(state: State, resets: Array) -> State:
    """The state, zero where a document starts."""
    return tuple(jnp.where(resets[..., None], jnp.zeros((), part.dtype), part) for part in state)
