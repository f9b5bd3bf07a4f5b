"""Gated recurrent units."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from charrnn.nn.arrays import Array, State, sigmoid
from charrnn.nn.cells.base import Cell, Kernel, Product, Vectors, gates


@dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent unit, the reset gate applied before the product (Cho et al. 2014).

        r = sigmoid(W_r x + U_r h + b_r)        how much of h the candidate sees
        z = sigmoid(W_z x + U_z h + b_z)        how much of h to keep
        n = tanh(W_n x + U_n (r * h) + b_n)     the candidate
        h' = z * h + (1 - z) * n

    `b_z` starts at `forget_bias`.
    """

    input_gates: ClassVar[int] = 3

    forget_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(2, hidden_size), "candidate_kernel": gates(1, hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([0.0, self.forget_bias, 0.0], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        r, z = product("recurrent_kernel", h)
        (n,) = product("candidate_kernel", sigmoid(r) * h)
        z = sigmoid(z)
        return (z * h + (1 - z) * jnp.tanh(n),)


@dataclass(frozen=True)
class ResetAfterGRU(Cell):
    """The GRU with the reset gate applied after the product, as cuDNN, PyTorch and Flax have it.

        r = sigmoid(W_r x + U_r h + b_r)
        z = sigmoid(W_z x + U_z h + b_z)
        n = tanh(W_n x + b_n + r * (U_n h + d_n))
        h' = z * h + (1 - z) * n

    One product a step where Cho's needs two.
    """

    input_gates: ClassVar[int] = 3

    forget_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": Kernel(hidden_size, (hidden_size,) * 3, inputs=2)}

    def vectors(self, hidden_size: int) -> dict[str, np.ndarray]:
        return {"candidate_bias": np.zeros(hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([0.0, self.forget_bias, 0.0], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (n,), (h,) = x, state
        r, z, u = product("recurrent_kernel", h)
        n = jnp.tanh(n + sigmoid(r) * (u + vectors["candidate_bias"]))
        z = sigmoid(z)
        return (z * h + (1 - z) * n,)


@dataclass(frozen=True)
class SimpleGRU(Cell):
    """The GRU with its update gate alone, no reset gate, as Ng's course on sequence models simplifies it.

    z = sigmoid(W_z x + U_z h + b_z)
    n = tanh(W_n x + U_n h + b_n)
    h' = z * h + (1 - z) * n
    """

    input_gates: ClassVar[int] = 2

    forget_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(2, hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([self.forget_bias, 0.0], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        z, n = product("recurrent_kernel", h)
        z = sigmoid(z)
        return (z * h + (1 - z) * jnp.tanh(n),)


@dataclass(frozen=True)
class MGU(Cell):
    """Minimal gated unit: one gate that resets and updates (Zhou et al. 2016).

        f = sigmoid(W_f x + U_f h + b_f)
        n = tanh(W_n x + U_n (f * h) + b_n)
        h' = (1 - f) * h + f * n

    `b_f` starts at `-forget_bias`, so that a larger one keeps more.
    """

    input_gates: ClassVar[int] = 2

    forget_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(1, hidden_size), "candidate_kernel": gates(1, hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([-self.forget_bias, 0.0], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        (f,) = product("recurrent_kernel", h)
        f = sigmoid(f)
        (n,) = product("candidate_kernel", f * h)
        return ((1 - f) * h + f * jnp.tanh(n),)
