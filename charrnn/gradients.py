"""How far a cell's gradient reaches: a random unit gradient of h_T, carried back to the whole state k steps before."""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from charrnn.config import ModelConfig
from charrnn.nn import recurrence
from charrnn.nn.arrays import Array, State
from charrnn.nn.cells import CELLS
from charrnn.nn.network import Layer, Network, create
from charrnn.nn.random import GENERATOR

_ROWS, _VOCABULARY, _EMBEDDING = 16, 64, 128


@dataclass(frozen=True)
class GradientReach:
    """A gradient that is 1 at distance 0, and its norm at each of `distances`."""

    name: str
    distances: tuple[int, ...]
    norms: tuple[float, ...]

    @property
    def half_life(self) -> float:
        """The distance over which the norm halves, on the average, down to the last that is neither zero nor infinite.

        Negative where the norm grows, inf where it does neither.
        """
        seen = [
            (distance, norm) for distance, norm in zip(self.distances, self.norms, strict=True) if 0 < norm < math.inf
        ]
        if not seen or seen[-1][1] == 1:
            return math.inf if seen else 0.0
        distance, norm = seen[-1]
        return -distance * math.log(2) / math.log(norm)


def distances_to(longest: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to `longest`, which is the last."""
    powers = [2**k for k in range(longest.bit_length()) if 2**k < longest]
    return (*powers, longest)


def at_initialisation(cell: str, hidden_size: int, longest: int, seed: int) -> GradientReach:
    """A cell with fresh weights that reads random characters as in training: one-hot, or embedded if it gates them."""
    ids = np.random.default_rng(seed).integers(0, _VOCABULARY, (2 * longest, _ROWS)).astype(np.int32)
    embedding = 0 if CELLS[cell].input_gates else _EMBEDDING
    config = ModelConfig(cell=cell, hidden_size=hidden_size, embedding_size=embedding)  # type: ignore[arg-type]
    return of_network(create(config, _VOCABULARY, seed), ids, longest, cell, seed)


def of_network(network: Network, ids: np.ndarray, longest: int, name: str, seed: int) -> GradientReach:
    """The last layer's reach in a network that reads `ids [T, B]`, `T` at least twice `longest`."""
    inputs, state = _last_layer(network, jnp.asarray(ids, jnp.int32), longest)
    layer = network.layers[-1]
    norms = _norms(layer, inputs, state, jax.random.key(seed, impl=GENERATOR))
    distances = distances_to(longest)
    return GradientReach(name, distances, tuple(float(norms[k]) for k in distances))


def all_cells() -> tuple[str, ...]:
    """The names of the cells, in their table's order."""
    return tuple(CELLS)


@partial(jax.jit, static_argnames="longest")
def _last_layer(network: Network, ids: Array, longest: int) -> tuple[Array, State]:
    """The last layer's inputs over the last `longest` characters, and its state before them."""
    resets = jnp.zeros(ids.shape, bool).at[0].set(True)
    carry = network.initial_carry(ids.shape[1])
    hidden = projected = network.first_projections("float32")[ids]
    for index, (layer, state) in enumerate(zip(network.layers, carry, strict=True)):
        below = hidden
        if index:
            projected = layer.project(below, "float32")
        first, rest = (recurrence.blocks_of(layer.cell, part) for part in (projected[:-longest], projected[-longest:]))
        before, state = recurrence.run(layer.cell, layer.weights, first, state, resets[:-longest], "float32")
        after, _ = recurrence.run(layer.cell, layer.weights, rest, state, resets[-longest:], "float32")
        hidden = jnp.concatenate([before, after])
        hidden = hidden + below if network.residual and index else hidden
    return projected[-longest:], state


@jax.jit
def _norms(layer: Layer, inputs: Array, state: State, key: Array) -> Array:
    """For distances 0 to T the norm of a random unit gradient at the last output, carried back, `[T + 1]`."""
    gradient = jax.random.normal(key, state[0].shape)
    gradient = gradient / jnp.linalg.norm(gradient)

    def forward(state: State, x: Array) -> tuple[State, State]:
        return recurrence.step(layer.cell, layer.weights, x, state, "float32")[0], state

    def back(gradient: State, here: tuple[State, Array]) -> tuple[State, Array]:
        before, x = here
        _, vjp = jax.vjp(lambda state: recurrence.step(layer.cell, layer.weights, x, state, "float32")[0], before)
        (gradient,) = vjp(gradient)
        return gradient, _norm(gradient)

    _, states = jax.lax.scan(forward, state, inputs)
    first = (gradient, *(jnp.zeros_like(part) for part in state[1:]))
    _, norms = jax.lax.scan(back, first, (states, inputs), reverse=True)
    return jnp.concatenate([_norm(first)[None], norms[::-1]])


def _norm(gradient: State) -> Array:
    return jnp.sqrt(sum((part**2).sum() for part in gradient))
