"""Recurrent cells, each written as its equations.

A cell is elementwise: it is handed the pre-activations of its gates and its state, and returns the
new state. The products with the weights, time, dropout and number formats are not its business;
`recurrence.py` runs any cell over time.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax.numpy as jnp
import numpy as np

from charrnn.errors import ConfigError
from charrnn.nn.arrays import Array, State


class RecurrentCell(Protocol):
    """What `recurrence.py` and `network.py` need to know of a cell."""

    gates: ClassVar[int]
    """Blocks of pre-activations, each `H` wide."""

    state_parts: ClassVar[int]
    """Arrays in the state; the first is the output `h`."""

    stages: ClassVar[tuple[int, ...]]
    """How the gates' recurrent products follow each other: gates of each stage, in order."""

    def product_input(self, stage: int, gates: tuple[Array, ...], state: State) -> Array:
        """What stage `stage`'s recurrent weights multiply, given the gates of the stages before."""

    def update(self, gates: tuple[Array, ...], state: State) -> State:
        """The new state from the pre-activations `G` x `[B, H]` and the state before."""

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        """The bias that training starts from, `[G * H]`."""


def sigmoid(x: Array) -> Array:
    """The logistic function as one tanh, which is a single vector instruction sequence on CPUs."""
    return 0.5 * (1 + jnp.tanh(0.5 * x))


@dataclass(frozen=True)
class LSTM:
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

        i = sigmoid(W_i x + U_i h + b_i)        what to admit
        f = sigmoid(W_f x + U_f h + b_f)        what to keep
        g = tanh(W_g x + U_g h + b_g)           the candidate
        o = sigmoid(W_o x + U_o h + b_o)        what to show
        c' = f * c + i * g
        h' = o * tanh(c')

    The forget gate's bias starts at `forget_bias`, 1 by default (Jozefowicz et al. 2015).
    """

    gates: ClassVar[int] = 4
    state_parts: ClassVar[int] = 2
    stages: ClassVar[tuple[int, ...]] = (4,)

    forget_bias: float = 1.0

    def product_input(self, stage: int, gates: tuple[Array, ...], state: State) -> Array:
        h, _ = state
        return h

    def update(self, gates: tuple[Array, ...], state: State) -> State:
        i, f, g, o = gates
        _, c = state
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([0.0, self.forget_bias, 0.0, 0.0], hidden_size)


@dataclass(frozen=True)
class GRU:
    """Gated recurrent unit, the reset gate applied before the product (Cho et al. 2014).

    r = sigmoid(W_r x + U_r h + b_r)        how much of h the candidate sees
    z = sigmoid(W_z x + U_z h + b_z)        how much of h to keep
    n = tanh(W_n x + U_n (r * h) + b_n)     the candidate
    h' = z * h + (1 - z) * n
    """

    gates: ClassVar[int] = 3
    state_parts: ClassVar[int] = 1
    stages: ClassVar[tuple[int, ...]] = (2, 1)

    def product_input(self, stage: int, gates: tuple[Array, ...], state: State) -> Array:
        (h,) = state
        return h if stage == 0 else sigmoid(gates[0]) * h

    def update(self, gates: tuple[Array, ...], state: State) -> State:
        _, z, n = gates
        (h,) = state
        z = sigmoid(z)
        return (z * h + (1 - z) * jnp.tanh(n),)

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.zeros(self.gates * hidden_size)


def make_cell(name: str, forget_bias: float) -> RecurrentCell:
    """The cell that `--cell` names."""
    if name == "lstm":
        return LSTM(forget_bias)
    if name == "gru":
        return GRU()
    raise ConfigError(f"--cell {name}: no such cell")
