"""Long short-term memory and its variants."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from charrnn.nn.arrays import Array, State, sigmoid
from charrnn.nn.cells.base import Cell, Kernel, Product, Vectors, gates


@dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

        i = sigmoid(W_i x + U_i h + b_i)        what to admit
        f = sigmoid(W_f x + U_f h + b_f)        what to keep
        g = tanh(W_g x + U_g h + b_g)           the candidate
        o = sigmoid(W_o x + U_o h + b_o)        what to show
        c' = f * c + i * g
        h' = o * tanh(c')

    `b_f` starts at `forget_bias`, 1 by default (Jozefowicz et al. 2015), `b_o` at `output_bias`.
    """

    input_gates: ClassVar[int] = 4
    state_parts: ClassVar[int] = 2

    forget_bias: float = 1.0
    output_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(4, hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([0.0, self.forget_bias, 0.0, self.output_bias], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        h, c = state
        i, f, g, o = product("recurrent_kernel", h)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c


@dataclass(frozen=True)
class PeepholeLSTM(Cell):
    """The LSTM whose gates also see the cell state (Gers & Schmidhuber 2000).

        i = sigmoid(W_i x + U_i h + p_i * c + b_i)
        f = sigmoid(W_f x + U_f h + p_f * c + b_f)
        g = tanh(W_g x + U_g h + b_g)
        c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)
        h' = o * tanh(c')

    The peepholes `p` start at zero, where the cell is the LSTM.
    """

    input_gates: ClassVar[int] = 4
    state_parts: ClassVar[int] = 2

    forget_bias: float = 1.0
    output_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(4, hidden_size)}

    def vectors(self, hidden_size: int) -> dict[str, np.ndarray]:
        return {name: np.zeros(hidden_size) for name in ("peephole_i", "peephole_f", "peephole_o")}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([0.0, self.forget_bias, 0.0, self.output_bias], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        h, c = state
        i, f, g, o = product("recurrent_kernel", h)
        i = sigmoid(i + vectors["peephole_i"] * c)
        f = sigmoid(f + vectors["peephole_f"] * c)
        c = f * c + i * jnp.tanh(g)
        o = sigmoid(o + vectors["peephole_o"] * c)
        return o * jnp.tanh(c), c


@dataclass(frozen=True)
class CoupledLSTM(Cell):
    """The LSTM in which one gate forgets and admits, f = 1 - i (Greff et al. 2015, CIFG).

        i = sigmoid(W_i x + U_i h + b_i)
        g = tanh(W_g x + U_g h + b_g)
        o = sigmoid(W_o x + U_o h + b_o)
        c' = (1 - i) * c + i * g
        h' = o * tanh(c')

    `b_i` starts at `-forget_bias`, so that a larger one keeps more.
    """

    input_gates: ClassVar[int] = 3
    state_parts: ClassVar[int] = 2

    forget_bias: float = 1.0
    output_bias: float = 0.0

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        return {"recurrent_kernel": gates(3, hidden_size)}

    def initial_bias(self, hidden_size: int) -> np.ndarray:
        return np.repeat([-self.forget_bias, 0.0, self.output_bias], hidden_size)

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        h, c = state
        i, g, o = product("recurrent_kernel", h)
        i = sigmoid(i)
        c = (1 - i) * c + i * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c


@dataclass(frozen=True)
class MogrifierLSTM(Cell):
    """The LSTM whose input and state gate each other in turns before each step (Melis et al. 2020).

        x <- 2 sigmoid(Q_r h) * x               in the odd rounds r
        h <- 2 sigmoid(R_r x) * h               in the even ones
        then the LSTM's step with x and h

    `Q_r` and `R_r` are products of two matrices of rank `mogrifier_rank`. These are
    not rounded to bfloat16: their errors would multiply round by round.
    """

    elementwise: ClassVar[bool] = False
    input_gates: ClassVar[int] = 0
    state_parts: ClassVar[int] = 2

    forget_bias: float = 1.0
    output_bias: float = 0.0
    mogrifier_rounds: int = 5
    mogrifier_rank: int = 32

    def kernels(self, input_size: int, hidden_size: int) -> dict[str, Kernel]:
        kernels = {}
        for r in range(1, self.mogrifier_rounds + 1):
            sees, gated = (hidden_size, input_size) if r % 2 else (input_size, hidden_size)
            from_state = 0 if r % 2 else sees
            rank = self.mogrifier_rank
            kernels[f"round_{r}_down"] = Kernel(sees, (rank,), 0, "glorot", exact=True, sees_state_from=from_state)
            kernels[f"round_{r}_up"] = Kernel(rank, (gated,), 0, "glorot", exact=True, sees_state_from=rank)
        both = input_size + hidden_size
        return {**kernels, "kernel": Kernel(both, (hidden_size,) * 4, 0, "glorot", sees_state_from=input_size)}

    def vectors(self, hidden_size: int) -> dict[str, np.ndarray]:
        return {"gate_bias": np.repeat([0.0, self.forget_bias, 0.0, self.output_bias], hidden_size)}

    def step(self, product: Product, x: tuple[Array, ...], vectors: Vectors, state: State) -> State:
        (inputs,), (h, c) = x, state
        for r in range(1, self.mogrifier_rounds + 1):
            (down,) = product(f"round_{r}_down", h if r % 2 else inputs)
            (up,) = product(f"round_{r}_up", down)
            if r % 2:
                inputs = 2 * sigmoid(up) * inputs
            else:
                h = 2 * sigmoid(up) * h
        blocks = product("kernel", jnp.concatenate([inputs, h], -1))
        i, f, g, o = (a + b for a, b in zip(blocks, jnp.split(vectors["gate_bias"], 4, -1), strict=True))
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c
