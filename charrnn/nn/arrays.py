"""Array types, number formats and the one matrix product that the whole program uses.

Axis letters: `T` time, `B` batch, `H` hidden units, `G` gates of a cell, `E` embedding,
`V` vocabulary, `L` layers. Arrays are time-major, `[T, B, ...]`.
"""

import jax
import jax.numpy as jnp
from jax import lax

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
    Sums are never narrower than float32.
    """
    operand_type = jnp.bfloat16 if precision == "bfloat16" else b.dtype
    sum_type = jnp.float64 if b.dtype == jnp.float64 else jnp.float32
    axes = ((contract[0] % a.ndim,), (contract[1] % b.ndim,))
    return lax.dot_general(
        a.astype(operand_type), b.astype(operand_type), (axes, ((), ())), preferred_element_type=sum_type
    )


def add_bias(values: Array, bias: Array) -> Array:
    """Add `bias [D]` to every row of `values [..., D]`."""
    return values + jnp.broadcast_to(bias, values.shape)


def storage_type(precision: str, parameter_type: jnp.dtype) -> jnp.dtype:
    """The type in which large intermediate arrays that feed a product are kept."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else parameter_type


def sigmoid(x: Array) -> Array:
    """The logistic function as one tanh, which is a single vector instruction sequence on CPUs."""
    return 0.5 * (1 + jnp.tanh(0.5 * x))
