"""Cells that make no product with their state: all their matrices multiply the input alone."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from charrnn.nn.arrays import Array, State, sigmoid
from charrnn.nn.cells.base import Cell, LinearCell, Product, Vectors


@dataclass(frozen=True)
class SRU(Cell):
    """Simple recurrent unit: light recurrence and a highway, no product with the state (Lei et al. 2018).

        f = sigmoid(W_f x + v_f * c + b_f)
        r = sigmoid(W_r x + v_r * c + b_r)
        c' = f * c + (1 - f) * (W x + b)
        h' = r * c' + (1 - r) * (W_s x + b_s)

    The paper has no `b`, and its highway is `a x`, where `a = sqrt(1 + 2 exp(b_r))` keeps the variance of `x`.
    Here `W_s`, which is learnt too, starts as just that; where the widths differ, as a random matrix of that scale.
    `v_f` and `v_r` start at zero, where the gates see the input alone; `b_f` starts at `forget_bias`, `b_r` at
    `output_bias`.
    """

    input_gates: ClassVar[int] = 4
    state_parts: ClassVar[int] = 2

    forget_bias: float = 0.0
    output_bias: float = 0.0

    def initial_input(self, input_size: int, hidden_size: int) -> tuple[tuple[str, float], ...]:
        highway = "identity" if input_size == hidden_size else "glorot"
        return (("glorot", 1.0),) * 3 + ((highway, math.sqrt(1 + 2 * math.exp(self.output_bias))),)

    def vectors(self, hidden_size: int) -> dict[str, np.ndarray]:
        return {"state_f": np.zeros(hidden_size), "state_r": np.zeros(hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([self.forget_bias, self.output_bias, 0.0, 0.0], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (f, r, candidate, highway), (_, c) = x, state
        f = sigmoid(f + vectors["state_f"] * c)
        r = sigmoid(r + vectors["state_r"] * c)
        c = f * c + (1 - f) * candidate
        return r * c + (1 - r) * highway, c


@dataclass(frozen=True)
class MinGRU(LinearCell):
    """The GRU pared down until it is linear in h (Feng et al. 2024).

        z = sigmoid(W_z x + b_z)
        n = W_n x + b_n
        h' = (1 - z) * h + z * n

    The candidate is linear, as in the paper's text; its appendix makes it positive, for a scan in
    logarithms, which is not needed here. `b_z` starts at `-forget_bias`, so that a larger one keeps more.
    """

    input_gates: ClassVar[int] = 2

    forget_bias: float = 0.0

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([-self.forget_bias, 0.0], hidden_size)

    def coefficients(self, x: tuple[Array, ...]) -> tuple[Array, Array]:
        z, n = x
        return sigmoid(-z), sigmoid(z) * n


@dataclass(frozen=True)
class MinLSTM(LinearCell):
    """The LSTM pared down until it is linear in h, its two gates sharing out one whole (Feng et al. 2024).

        f = sigmoid(W_f x + b_f)
        i = sigmoid(W_i x + b_i)
        n = W_n x + b_n
        h' = f / (f + i) * h + i / (f + i) * n

    The candidate is linear, as the MinGRU's is. `b_f` starts at `forget_bias`.
    """

    input_gates: ClassVar[int] = 3

    forget_bias: float = 1.0

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([self.forget_bias, 0.0, 0.0], hidden_size)

    def coefficients(self, x: tuple[Array, ...]) -> tuple[Array, Array]:
        f, i, n = x
        # f / (f + i) in logarithms, so that two closed gates do not divide zero by zero.
        kept = sigmoid(_log_sigmoid(f) - _log_sigmoid(i))
        return kept, (1 - kept) * n


def _log_sigmoid(x: Array) -> Array:
    return -jnp.logaddexp(-x, jnp.zeros((), x.dtype))
