"""Steps of a network in which all that reads a layer's output is one product.

A layer's output is multiplied with its own recurrent matrix, for the next step, and with the next layer's
input matrix or the head. Side by side these are one product, and what the recurrent matrices make of a state is
known a step ahead. A matrix that multiplies a part of the output, such as a GRU's candidate's, stays by itself.
"""

import itertools

import jax
import jax.numpy as jnp

from charrnn.nn import recurrence
from charrnn.nn.arrays import Array, Blocks, Carry, State, add_bias, product
from charrnn.nn.network import Layer, Network

Joint = tuple[Array, ...]
"""For each layer the matrices that multiply its output, side by side and transposed, `[F, H]`.

XLA's CPU products of few rows read a transposed bfloat16 matrix an eighth faster.
"""

Ahead = tuple[Array, ...]
"""For each layer what its `Joint` matrix made of its last output, `[B, F]`: whole, since a part would be a copy."""


def join(network: Network) -> Joint:
    """The matrices that multiply each layer's output; none where one is read as part of something else."""
    if (network.residual and len(network.layers) > 1) or any(layer.input_kernel is None for layer in network.layers):
        return ()
    above = [*(layer.input_kernel[...] for layer in network.layers[1:]), network.head_kernel[...]]
    own = [[layer.weights.kernels[name] for name in _widths(layer)] for layer in network.layers]
    return tuple(jnp.concatenate([*mine, its], -1).T for mine, its in zip(own, above, strict=True))


def ahead(joint: Joint, carry: Carry, precision: str) -> Ahead:
    """What is known of a state before the next step."""
    return tuple(_product(state, matrix, precision) for state, matrix in zip(carry, joint, strict=True))


def step(
    network: Network, joint: Joint, projected: Array, carry: Carry, known: Ahead, precision: str
) -> tuple[Array, Carry, Ahead]:
    """`Network.step` from what the first layer makes of the characters before, `[B, G*H]`, and `ahead` of the carry.

    Returns the logits `[B, V]`, the new state and what is known of it.
    """
    after, later = list[State](), list[Array]()
    biases = [*(layer.bias[...] for layer in network.layers[1:]), network.head_bias[...]]
    for layer, matrix, bias, state, before in zip(network.layers, joint, biases, carry, known, strict=True):
        widths = _widths(layer)
        results = dict(zip(widths, _split(before, widths)[:-1], strict=True))
        state, _ = recurrence.step(layer.cell, layer.weights, projected, state, precision, results)
        here = _product(state, matrix, precision)
        projected = add_bias(_split(here, widths)[-1], bias)
        after.append(state)
        later.append(here)
    return projected, tuple(after), tuple(later)


def _product(state: State, matrix: Array, precision: str) -> Array:
    return product(state[0], matrix, precision, (-1, 1))


def _split(products: Array, widths: dict[str, int]) -> list[Array]:
    """A layer's products: those of its own matrices, and of the one above."""
    return jnp.split(products, list(itertools.accumulate(widths.values())), -1)


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
