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


def sigmoid(x: Array) -> Array:
    """The logistic function as one tanh, which is a single vector instruction sequence on CPUs."""
    return 0.5 * (1 + jnp.tanh(0.5 * x))
