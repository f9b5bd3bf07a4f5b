"""Steps of a network in which all that reads a layer's output is one product.

A layer's output is multiplied with its own recurrent matrix, for the next step, and with the next layer's
input matrix or the head. Side by side these are one product, and what the recurrent matrices make of a state is
known a step ahead. A matrix that multiplies a part of the output, such as a GRU's candidate's, stays by itself.

States are rows `[B, H]` or columns `[H, B]` (`layout.py`); what is known of them likewise.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from charrnn.nn import layout, recurrence
from charrnn.nn.arrays import Array, Blocks, Carry, State, add_bias, product
from charrnn.nn.layout import COLUMNS, ROWS
from charrnn.nn.network import Layer, Network
from charrnn.nn.recurrence import Weights


class Joint(NamedTuple):
    """A layer's matrices.

    matrix: those that multiply its output, side by side and transposed, `[F, H]`: XLA's CPU products of few rows read
    a transposed bfloat16 matrix an eighth faster, and those of columns multiply from the left.
    others: where states are columns, the cell's other matrices by name, as those are multiplied with them.
    """

    matrix: Array
    others: dict[str, Array]


Ahead = tuple[Array, ...]
"""For each layer what its joint matrix made of its last output, `[B, F]`: whole, since a part would be a copy."""


def join(network: Network) -> tuple[Joint, ...]:
    """Each layer's matrices; none where an output is read as part of something else."""
    if (network.residual and len(network.layers) > 1) or any(layer.input_kernel is None for layer in network.layers):
        return ()
    above = [*(layer.input_kernel[...] for layer in network.layers[1:]), network.head_kernel[...]]
    return tuple(_join(layer, its) for layer, its in zip(network.layers, above, strict=True))


def _join(layer: Layer, above: Array) -> Joint:
    own = (layer.weights.kernels[name] for name in _widths(layer))
    return Joint(jnp.concatenate([*own, above], -1).T, {})


def for_columns(network: Network, joints: tuple[Joint, ...]) -> tuple[Joint, ...]:
    """The matrices that `join` made, with what steps of columns need besides."""
    return tuple(
        one._replace(others={
            name: layout.forward_factor(kernel, COLUMNS)
            for name, kernel in layer.weights.kernels.items() if name not in _widths(layer)
        })
        for layer, one in zip(network.layers, joints, strict=True)
    )  # fmt: skip


def ahead(joints: tuple[Joint, ...], carry: Carry, precision: str) -> Ahead:
    """What is known of states, rows, before the next step."""
    return tuple(_product(state, joint, precision, ROWS) for state, joint in zip(carry, joints, strict=True))


def step(
    network: Network,
    joints: tuple[Joint, ...],
    projected: Array,
    carry: Carry,
    known: Ahead,
    precision: str,
    axis: int = ROWS,
) -> tuple[Array, Carry, Ahead]:
    """`Network.step` from what the first layer makes of the characters before, `[B, G*H]`, and `ahead` of the carry.

    Returns the logits `[B, V]`, the new state and what is known of it. With columns all of them are columns.
    """
    after, later = list[State](), list[Array]()
    biases = [*(layer.bias[...] for layer in network.layers[1:]), network.head_bias[...]]
    for layer, joint, bias, state, before in zip(network.layers, joints, biases, carry, known, strict=True):
        widths, weights = _widths(layer), layer.weights
        results = dict(zip(widths, _split(before, widths, axis)[:-1], strict=True))
        if axis == COLUMNS:
            weights = Weights(joint.others, weights.vectors)
        state, _ = recurrence.step(layer.cell, weights, projected, state, precision, results, axis)
        here = _product(state, joint, precision, axis)
        projected = add_bias(_split(here, widths, axis)[-1], bias, axis)
        after.append(state)
        later.append(here)
    return projected, tuple(after), tuple(later)


def _product(state: State, joint: Joint, precision: str, axis: int) -> Array:
    if axis == COLUMNS:
        return product(joint.matrix, state[0], precision)
    return product(state[0], joint.matrix, precision, (-1, 1))


def _split(products: Array, widths: dict[str, int], axis: int) -> list[Array]:
    """A layer's products: those of its own matrices, and of the one above."""
    return jnp.split(products, list(itertools.accumulate(widths.values())), axis)


def _widths(layer: Layer) -> dict[str, int]:
    """How wide those of a layer's own matrices are that its cell multiplies with its last output as it is."""
    cell, widths, width = layer.cell, dict[str, int](), layer.hidden_size
    kernels = cell.kernels(layer.input_size, width)
    added = sum(kernel.inputs for kernel in kernels.values())

    def trace(x: Blocks, vectors: dict[str, Array], state: State) -> State:
        def product(name: str, operand: Array) -> Blocks:
            if operand is state[0]:
                widths[name] = sum(kernels[name].blocks)
            return tuple(jnp.zeros((1, block)) for block in kernels[name].blocks)

        return cell.step(product, x, vectors, state)

    vectors = {name: jnp.zeros((1, len(vector))) for name, vector in cell.vectors(width).items()}
    unit = jnp.zeros((1, width))
    jax.eval_shape(trace, (unit,) * (cell.input_gates - added), vectors, (unit,) * cell.state_parts)
    return widths
