"""Array types, number formats and the one matrix product that the whole program uses.

Axis letters: `T` time, `B` batch, `H` hidden units, `G` gates of a cell, `E` embedding,
`V` vocabulary, `L` layers. Arrays are time-major, `[T, B, ...]`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

Array = jax.Array
State = tuple[Array, ...]
"""A layer's state: the cell's parts, each `[B, H]`, the output `h` first."""

Blocks = tuple[Array, ...]
"""What makes one wide array side by side, such as the gates' parts of a product."""

Carry = tuple[State, ...]
"""A network's state: one `State` a layer."""

COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": "512"}
"""For programs whose time goes into elementwise work: half the time of it where AVX-512 is there, else the same."""


def product(a: Array, b: Array, precision: str, contract: tuple[int, int] = (-1, 0)) -> Array:
    """Contract axis `contract[0]` of `a` with axis `contract[1]` of `b`.

    In "bfloat16" the operands are rounded and the sums are float32; otherwise both keep `a`'s type.
    Sums are never narrower than float32. An accelerator rounds float32 operands too, unless told not to.
    """
    operand_type = jnp.bfloat16 if precision == "bfloat16" else b.dtype
    sum_type = jnp.float64 if b.dtype == jnp.float64 else jnp.float32
    axes = ((contract[0] % a.ndim,), (contract[1] % b.ndim,))
    exactly = None if operand_type == jnp.bfloat16 else lax.Precision.HIGHEST
    return lax.dot_general(
        a.astype(operand_type), b.astype(operand_type), (axes, ((), ())), exactly, preferred_element_type=sum_type
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(inputs: Array, kernel: Array, precision: str) -> Array:
    """`inputs [..., D]` times `kernel [D, F]`; the products of its gradient have the same precision."""
    return product(inputs, kernel, precision)


def _dense_forward(inputs: Array, kernel: Array, precision: str) -> tuple[Array, tuple[Array, Array]]:
    return product(inputs, kernel, precision), (inputs, kernel)


def _dense_backward(precision: str, residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = residuals
    through = product(gradient, kernel, precision, (-1, 1))
    return through.astype(inputs.dtype), kernel_gradient(inputs, gradient, precision).astype(kernel.dtype)


dense.defvjp(_dense_forward, _dense_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def dense_blocks(inputs: Array, kernel: Array, bias: Array, count: int, precision: str) -> Blocks:
    """`inputs [..., D]` times `kernel [D, F]` plus `bias [F]`, in `count` blocks of the type that feeds products.

    One product a block, so that no more than one is in memory before it is rounded; the gradient's are whole.
    """
    storage, kernels = storage_type(precision, inputs.dtype), jnp.split(kernel, count, -1)
    sums = (product(inputs, block, precision) for block in kernels)
    biases = jnp.split(bias, count)
    return tuple(add_bias(one, shift).astype(storage) for one, shift in zip(sums, biases, strict=True))


def _dense_blocks_forward(
    inputs: Array, kernel: Array, bias: Array, count: int, precision: str
) -> tuple[Blocks, tuple[Array, Array, Array]]:
    return dense_blocks(inputs, kernel, bias, count, precision), (inputs, kernel, bias)


def _dense_blocks_backward(
    count: int, precision: str, residuals: tuple[Array, Array, Array], gradients: Blocks
) -> tuple[Array, Array, Array]:
    inputs, kernel, bias = residuals
    gradient = joined(gradients)
    through, of_kernel = _dense_backward(precision, (inputs, kernel), gradient)
    rows = gradient.reshape(-1, gradient.shape[-1])
    return through, of_kernel, rows.astype(bias.dtype).sum(0)


dense_blocks.defvjp(_dense_blocks_forward, _dense_blocks_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def look_up(table: Array, ids: Array, count: int) -> Blocks:
    """Rows of a `[V, D]` table by id, in `count` blocks. The gradient is a product with a one-hot, not a scatter."""
    bits = jnp.split(packed(table, table.dtype), count, -1)
    return tuple(unpacked(block[ids], table.dtype) for block in bits)


def _sum_type(array: Array) -> jnp.dtype:
    return jnp.dtype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def _look_up_forward(table: Array, ids: Array, count: int) -> tuple[Blocks, tuple[Array, Array]]:
    return look_up(table, ids, count), (table, ids)


def _look_up_backward(count: int, residuals: tuple[Array, Array], gradients: Blocks) -> tuple[Array, None]:
    (table, ids), gradient = residuals, joined(gradients)
    rows, flat = table.shape[0], gradient.reshape(-1, gradient.shape[-1])
    if rows > 2048:  # a one-hot as wide as a large alphabet costs more than the scatter it spares
        sums = jnp.zeros(table.shape, _sum_type(table))
        return sums.at[ids.reshape(-1)].add(flat.astype(sums.dtype)).astype(table.dtype), None
    one_hot = jax.nn.one_hot(ids.reshape(-1), rows, dtype=flat.dtype, axis=0)
    exactly = None if flat.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    sums = lax.dot_general(one_hot, flat, (((1,), (0,)), ((), ())), exactly, preferred_element_type=_sum_type(table))
    return sums.astype(table.dtype), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def kernel_gradient(inputs: Array, gradient: Array, precision: str) -> Array:
    """The gradient `[D, F]` of a kernel that took `inputs [..., D]` to results with this gradient `[..., F]`."""
    rows, results = (array.reshape(-1, array.shape[-1]) for array in (inputs, gradient))
    if precision != "bfloat16":
        return product(rows, results, precision, (0, 0))
    # Transposed in memory, not in name only: XLA's CPU product over two first axes takes three times as long.
    return product(in_memory(rows.astype(jnp.bfloat16).T), results, precision)


def in_memory(matrix: Array) -> Array:
    """The matrix laid out row by row on a CPU, where a transposed one would else be read column by column."""
    return lax.platform_dependent(
        matrix, cpu=lambda matrix: with_layout_constraint(matrix, Layout((0, 1))), default=lambda matrix: matrix
    )


def add_bias(values: Array, bias: Array) -> Array:
    """Add `bias [D]` to every row of `values [..., D]`."""
    return values + jnp.broadcast_to(bias, values.shape)


def row_sum(values: Array) -> Array:
    """Sum over the last axis, in halves: in an order that does not depend on the other axes, as `sum`'s may."""
    width = values.shape[-1]
    padding = (1 << (width - 1).bit_length()) - width
    values = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    while (half := values.shape[-1] // 2) > 0:
        values = values[..., :half] + values[..., half:]
    return values[..., 0]


def log_sum_exp(values: Array) -> Array:
    """Log of the sum of exponentials over the last axis, in an order that does not depend on the other axes."""
    best = values.max(-1, keepdims=True)
    return best[..., 0] + jnp.log(row_sum(jnp.exp(values - best)))


def index_of_largest(values: Array) -> Array:
    """The index of the largest number in the last axis, the first of equals, `[...]` int32; with NaN some index.

    Two passes: XLA's CPU compiler makes vector instructions of a maximum and of a minimum, but not of an `argmax`.
    """
    last, best = values.shape[-1] - 1, jnp.broadcast_to(values.max(-1, keepdims=True), values.shape)
    indices = jnp.broadcast_to(jnp.arange(values.shape[-1], dtype=jnp.int32), values.shape)
    return jnp.where(values >= best, indices, last).min(-1)


def storage_type(precision: str, parameter_type: jnp.dtype) -> jnp.dtype:
    """The type in which large intermediate arrays that feed a product are kept."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else parameter_type


def packed(values: Array, storage: jnp.dtype) -> Array:
    """Values as a scan keeps them or a table is read: bfloat16 as bits, which XLA's CPU loops copy 15 times as fast."""
    values = values.astype(storage)
    return lax.bitcast_convert_type(values, jnp.uint16) if storage == jnp.bfloat16 else values


def unpacked(values: Array, storage: jnp.dtype) -> Array:
    """What was `packed`, in the type `storage`."""
    return lax.bitcast_convert_type(values, jnp.bfloat16) if storage == jnp.bfloat16 else values


def joined(blocks: Blocks) -> Array:
    """The blocks as one array; as bits, since XLA's CPU compiler would join bfloat16 as float32."""
    return unpacked(jnp.concatenate([packed(block, block.dtype) for block in blocks], -1), blocks[0].dtype)


def sigmoid(x: Array) -> Array:
    """The logistic function as one tanh, which is a single vector instruction sequence on CPUs."""
    return 0.5 * (1 + jnp.tanh(0.5 * x))
