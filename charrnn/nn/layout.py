"""A state's rows as rows `[B, H]` or, turned, as columns `[H, B]`, and the products of either.

XLA's CPU products put the second factor in another order before they multiply. Where that is a weight matrix
and the rows are few, as at each step of a recurrence, it takes a third of the time. With columns the second factor is
the state, which is small.
"""

import jax
import jax.numpy as jnp

from charrnn.nn.arrays import (
    LONGEST_SUM,
    Array,
    Blocks,
    in_memory,
    joined,
    look_up,
    packed,
    product,
    storage_type,
    unpacked,
)
from charrnn.nn.cells import Cell, Kernel

ROWS, COLUMNS = -1, -2
"""Which axis of a state, of what it is multiplied with and of what comes of it holds the units."""

_FEWEST_ROWS, _FEWEST_UNITS = 32, 512
"""With fewer, turning what goes in and out takes as long as the products gain."""


def axis_for(cell: Cell, state: Array) -> int:
    """In which layout a window is read fastest here, by its initial state `[B, H]`."""
    rows, units = state.shape
    large = rows >= _FEWEST_ROWS and units >= _FEWEST_UNITS
    return COLUMNS if large and cell.elementwise and jax.default_backend() == "cpu" else ROWS


def turned(array: Array, axis: int) -> Array:
    """Rows `[..., B, H]` in this layout, or back from it."""
    return array if axis == ROWS else in_memory(array.swapaxes(-1, -2))


def looked_up(table: Array, ids: Array, count: int, axis: int) -> Blocks:
    """Rows `[T, B, ...]` of a table `[V, D]` by id, in this layout, in `count` blocks."""
    if axis == ROWS:
        return look_up(table, ids, count)
    # From a transposed table: its rows stay in the core's nearest cache while one after the other is read.
    blocks = jnp.split(in_memory(packed(table, table.dtype).T), count)
    return tuple(unpacked(in_memory(block[:, ids].transpose(1, 0, 2)), table.dtype) for block in blocks)


def split(values: Array, kernel: Kernel, axis: int) -> Blocks:
    """A kernel's product as its blocks."""
    ends = [sum(kernel.blocks[: k + 1]) for k in range(len(kernel.blocks) - 1)]
    return tuple(jnp.split(values, ends, axis))


def spread(vectors: dict[str, Array], state: Array, axis: int) -> dict[str, Array]:
    """Weight vectors, a copy for each row or column of a state, or of a window of states."""
    shapes = {name: list(state.shape) for name in vectors}
    for name, vector in vectors.items():
        shapes[name][axis] = len(vector)
    return {
        name: jnp.broadcast_to(vector if axis == ROWS else vector[:, None], shapes[name])
        for name, vector in vectors.items()
    }


def over_rows(gradient: Array, axis: int) -> Array:
    """The gradient of a weight vector from those of its copies."""
    return gradient.sum(-2 if axis == ROWS else -1)


def forward_factor(kernel: Array, axis: int) -> Array:
    """A kernel as `multiplied` takes it."""
    return kernel if axis == ROWS else in_memory(kernel.T)


def multiplied(operand: Array, factor: Array, precision: str, axis: int) -> Array:
    """An operand times a kernel."""
    return product(operand, factor, precision) if axis == ROWS else product(factor, operand, precision)


def backward_factors(matrix: Array, kernel: Kernel, axis: int) -> Blocks:
    """A kernel in the pieces that `passed_through` takes: a block each, or of rows as many as XLA sums quickly."""
    if axis == COLUMNS:
        return split(matrix, kernel, -1)
    transposed = in_memory(matrix.T)
    most = LONGEST_SUM if matrix.dtype == jnp.bfloat16 else len(transposed)
    return tuple(transposed[k : k + most] for k in range(0, len(transposed), most))


def passed_through(gradients: Blocks, factors: Blocks, precision: str, axis: int) -> Array:
    """The gradient of an operand from those of its product's blocks."""
    rounded = tuple(block.astype(storage_type(precision, block.dtype)) for block in gradients)
    if axis == COLUMNS:
        pieces = [product(factor, block, precision) for factor, block in zip(factors, rounded, strict=True)]
    else:
        whole, ends = joined(rounded), [sum(map(len, factors[: k + 1])) for k in range(len(factors) - 1)]
        parts = jnp.split(whole, ends, -1)
        pieces = [product(part, factor, precision) for part, factor in zip(parts, factors, strict=True)]
    return sum(pieces[1:], pieces[0])
