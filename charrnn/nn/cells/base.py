"""What a recurrent cell is.

A cell's `step` takes one character's worth of time for rows side by side. It is handed the input's
part of the gates and asks for products by name; how those products are made, time, gradients,
dropout and number formats are not its business: `recurrence.py` runs any cell over time.

In the equations `W` multiplies the input, `U` the state, and `*` is elementwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from charrnn.nn.arrays import Array, State

Product = Callable[[str, Array], tuple[Array, ...]]
"""`product(name, operand [B, rows])`: the operand times a weight matrix of the cell, as its blocks `[B, H]`."""

Vectors = Mapping[str, Array]
"""A cell's weight vectors by name, one copy a row: `[B, D]`."""


class Kernel(NamedTuple):
    """A weight matrix that a cell multiplies with at every step, `[rows, sum(blocks)]`.

    blocks: the widths into which a product is split. inputs: to so many of the first blocks the
    input's part `W x + b` is added. initial: "orthogonal", "glorot" or "identity", each block by itself,
    times `scale`. exact: the product is never rounded to bfloat16. sees_state_from: the row from which on
    the operand is the state; the rows before it see the input, and are no recurrent weights.
    """

    rows: int
    blocks: tuple[int, ...]
    inputs: int
    initial: str = "orthogonal"
    scale: float = 1.0
    exact: bool = False
    sees_state_from: int = 0

    def precision(self, precision: str) -> str:
        """The number format of this matrix's products where others have `precision`."""
        return "float32" if self.exact else precision


def gates(count: int, hidden_size: int, initial: str = "orthogonal", scale: float = 1.0) -> Kernel:
    """The matrix from a state `[B, H]` to so many gates that all see the input."""
    return Kernel(hidden_size, (hidden_size,) * count, count, initial, scale)


class Cell(ABC):
    """What `recurrence.py` and `network.py` need to know of a cell; a cell says what differs."""

    input_gates: ClassVar[int]
    """Blocks `H` wide of the input's product `W x + b`: first those added to the kernels' products, in
    order, then those that `step` is given as `x`. 0: `x` is the input itself, which the cell multiplies."""

    elementwise: ClassVar[bool] = True
    """Whether `step` does nothing but products and elementwise operations, and so is free to have columns for rows."""

    state_parts: ClassVar[int] = 1
    """Arrays `[B, H]` in the state; the first is the output `h`."""

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        """The weight matrices multiplied at every step. None: the cell makes no product with its state."""
        return {}

    def vectors(self, hidden_size: int) -> dict[str, np.ndarray]:
        """The weight vectors, with the values that training starts from."""
        return {}

    def initial_input(self, input_size: int, hidden_size: int) -> tuple[tuple[str, float], ...]:
        """How each block of the input's matrix starts: `initial` and `scale` of a `Kernel`."""
        return (("glorot", 1.0),) * self.input_gates

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        """The bias of the input's product that training starts from, `[input_gates * H]`."""
        return np.zeros(self.input_gates * hidden_size)

    @abstractmethod
    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        """The new state from the input's part `x` (blocks `[B, H]`) and the state before.

        Where a cell is `elementwise`, all of these may come turned, `[H, B]`, and the vectors as `[D, B]`.
        """


class LinearCell(Cell):
    """A cell that is linear in its state, h' = a * h + b, its gates seeing the input alone.

    All its steps can be taken at once, by an associative scan.
    """

    @abstractmethod
    def coefficients(self, x: tuple[Array, ...]) -> tuple[Array, Array]:
        """`a` and `b`, `[..., H]`, from the input's blocks `[..., H]`."""

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (h,) = state
        a, b = self.coefficients(x)
        return (a * h + b,)
