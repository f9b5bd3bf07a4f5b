"""The simple recurrent networks."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from charrnn.nn.arrays import Array, State
from charrnn.nn.cells.base import Cell, Kernel, Product, Vectors, gates

_IDENTITY_SCALE = 0.9
"""Rectified units that start as the whole identity grow without end in a state that is never reset."""


@dataclass(frozen=True)
class Elman(Cell):
    """The simple recurrent network (Elman 1990).

    h' = tanh(W x + U h + b)
    """

    input_gates: ClassVar[int] = 1

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(1, hidden_size)}

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        (a,) = product("recurrent_kernel", h)
        return (jnp.tanh(a),)


@dataclass(frozen=True)
class ElmanReLU(Cell):
    """The simple recurrent network with rectified units, `U` starting as a scaled identity (Le et al. 2015).

    h' = max(0, W x + U h + b)
    """

    input_gates: ClassVar[int] = 1

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(1, hidden_size, "identity", _IDENTITY_SCALE)}

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        (a,) = product("recurrent_kernel", h)
        return (jnp.maximum(a, 0.0),)
