"""Array types, number formats and the one matrix product that the whole program uses.

Axis letters: `T` time, `B` batch, `H` hidden units, `G` gates of a cell, `E` embedding,
`V` vocabulary, `L` layers. Arrays are time-major, `[T, B, ...]`.
"""

import math
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

LONGEST_SUM = 1024
"""XLA's CPU products in bfloat16 take a quarter longer, those of few rows twice as long, where a sum has more terms."""

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

    One product a block, so that no more than one is in memory before it is rounded.
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
    through = _through_blocks(gradients, kernel, precision).astype(inputs.dtype)
    of_kernel = kernel_gradient(inputs, gradient, precision).astype(kernel.dtype)
    rows = gradient.reshape(-1, gradient.shape[-1])
    return through, of_kernel, rows.astype(bias.dtype).sum(0)


def _through_blocks(gradients: Blocks, kernel: Array, precision: str) -> Array:
    """The gradient of what a kernel was multiplied with; on a CPU a product for so many blocks as are a short sum."""
    width = gradients[0].shape[-1]

    def times(gradients: Blocks, start: int) -> Array:
        part = lax.slice_in_dim(kernel, start * width, (start + len(gradients)) * width, axis=1)
        return product(joined(gradients), part, precision, (-1, 1))

    def in_parts(*gradients: Array) -> Array:
        most = max(1, LONGEST_SUM // width)
        parts = [times(gradients[k : k + most], k) for k in range(0, len(gradients), most)]
        return sum(parts[1:], parts[0])

    if precision != "bfloat16":
        return times(gradients, 0)
    return lax.platform_dependent(*gradients, cpu=in_parts, default=lambda *gradients: times(gradients, 0))


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
    table, ids = residuals
    return look_up_gradient(table, ids, gradients), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def look_up_gradient(table: Array, ids: Array, gradients: Blocks) -> Array:
    """The gradient of the table from those of what was looked up."""
    gradient = joined(gradients)
    rows, flat = table.shape[0], gradient.reshape(-1, gradient.shape[-1])
    if rows > 2048:  # a one-hot as wide as a large alphabet costs more than the scatter it spares
        sums = jnp.zeros(table.shape, _sum_type(table))
        return sums.at[ids.reshape(-1)].add(flat.astype(sums.dtype)).astype(table.dtype)
    one_hot = jax.nn.one_hot(ids.reshape(-1), rows, dtype=flat.dtype, axis=0)
    exactly = None if flat.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    sums = lax.dot_general(one_hot, flat, (((1,), (0,)), ((), ())), exactly, preferred_element_type=_sum_type(table))
    return sums.astype(table.dtype)


def kernel_gradient(inputs: Array, gradient: Array, precision: str, columns: bool = False) -> Array:
    """The gradient `[D, F]` of a kernel that took `inputs [..., D]` to results with this gradient `[..., F]`.

    columns: the inputs are `[..., D, B]` for results `[..., B, F]`.
    """
    whole = partial(_kernel_gradient, precision=precision, columns=columns)
    if precision != "bfloat16":
        return whole(inputs, gradient)
    inputs, gradient = inputs.astype(jnp.bfloat16), gradient.astype(jnp.bfloat16)
    in_pieces = partial(_kernel_gradient_in_pieces, columns=columns)
    return lax.platform_dependent(inputs, gradient, cpu=in_pieces, default=whole)


def _kernel_gradient(inputs: Array, gradient: Array, precision: str, columns: bool) -> Array:
    results = gradient.reshape(-1, gradient.shape[-1])
    if columns:
        features = jnp.moveaxis(inputs, -2, 0)
        return product(features.reshape(len(features), -1), results, precision)
    return product(inputs.reshape(-1, inputs.shape[-1]), results, precision, (0, 0))


def _kernel_gradient_in_pieces(inputs: Array, gradient: Array, columns: bool) -> Array:
    """The same in bfloat16, as a sum of products over `LONGEST_SUM` rows each, or up to twice as many."""
    steps, rows = len(gradient), math.prod(gradient.shape[1:-1])
    size = -(-steps // max(1, steps * rows // LONGEST_SUM))
    bits = packed(inputs, jnp.bfloat16), packed(gradient, jnp.bfloat16)

    def piece(start: Array | int, size: int) -> Array:
        inputs, gradient = (unpacked(lax.dynamic_slice_in_dim(array, start, size), jnp.bfloat16) for array in bits)
        if not columns:
            inputs = inputs.reshape(-1, inputs.shape[-1])
        # In memory, not in name only: XLA's CPU product over two first axes takes three times as long.
        features = in_memory(jnp.moveaxis(inputs, -2 if columns else -1, 0))
        results = gradient.reshape(-1, gradient.shape[-1])
        return product(features.reshape(len(features), -1), results, "bfloat16")

    total = lax.fori_loop(1, steps // size, lambda k, total: total + piece(k * size, size), piece(0, size))
    rest = steps % size
    return total + piece(steps - rest, rest) if rest else total


def in_memory(array: Array) -> Array:
    """The array laid out row by row on a CPU, where a transposed one would else be read column by column."""
    rows = Layout(tuple(range(array.ndim)))
    return lax.platform_dependent(
        array, cpu=lambda array: with_layout_constraint(array, rows), default=lambda array: array
    )


def add_bias(values: Array, bias: Array, axis: int = -1) -> Array:
    """Add `bias [D]` to every row of `values [..., D]`, or along another axis of `D` to every one of its columns."""
    return values + jnp.broadcast_to(jnp.expand_dims(bias, range(axis + 1, 0)), values.shape)


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


def rows_of(table: Array, ids: Array) -> Array:
    """Rows of a `[V, D]` table, perhaps `packed`, by id."""
    rows = table[ids]
    return unpacked(rows, jnp.dtype(jnp.bfloat16)) if table.dtype == jnp.uint16 else rows


def columns_of(table: Array, ids: Array) -> Array:
    """Columns of a `[D, V]` table, perhaps `packed`, by id, `[D, B]`."""
    columns = in_memory(table[:, ids])
    return unpacked(columns, jnp.dtype(jnp.bfloat16)) if table.dtype == jnp.uint16 else columns


def joined(blocks: Blocks) -> Array:
    """The blocks as one array; as bits, since XLA's CPU compiler would join bfloat16 as float32."""
    return unpacked(jnp.concatenate([packed(block, block.dtype) for block in blocks], -1), blocks[0].dtype)


def sigmoid(x: Array) -> Array:
    """The logistic function as one tanh, which is a single vector instruction sequence on CPUs."""
    return 0.5 * (1 + jnp.tanh(0.5 * x))
