"""Dynamic evaluation: the network goes on learning from the text that it scores.

Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models": each segment is scored, then the
weights take a step down its gradient, normalised by the root mean square of the gradients so far,
and are drawn back towards the ones they started from, the more so the larger their gradients are.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn.arrays import Array, Carry
from charrnn.nn.network import Network

SEGMENT = 20
"""Characters between two steps, and how far a gradient reaches back."""

_EPSILON = 1e-5
_PRIOR = 20.0
"""The first gradients count as so many: their mean square is not yet that of the text."""


class Adaptation(NamedTuple):
    """The learning as it stands: the weights, the sum of squared gradients of so many segments, and the state."""

    network: Network
    squares: Network
    segments: Array
    carry: Carry


class Rates(NamedTuple):
    """How fast to learn, and the share of the way back to the first weights at each step."""

    learning: Any
    decay: Any


DEFAULT_RATES = Rates(6e-4, 1e-3)
"""Tuned on the held-out tenth of tinyshakespeare, where they bring 1.491 nats to 1.348."""


def dynamic_score(
    network: Network, windows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], rates: Rates
) -> Iterator[np.ndarray]:
    """Yield the nats of each window's targets, `[T, 1]`, every segment counted before it is learnt.

    windows: inputs, targets (-1: not scored) and resets, each `[T, 1]` with T a multiple of SEGMENT.
    """
    state = Adaptation(
        network, jax.tree.map(jnp.zeros_like, network), jnp.zeros((), jnp.float32), network.initial_carry(1)
    )
    for inputs, targets, resets in windows:
        parts = (np.asarray(inputs, np.int32), np.asarray(targets, np.int32), np.asarray(resets, bool))
        segments = tuple(part.reshape(-1, SEGMENT, 1) for part in parts)
        state, nats = _learn_window(state, network, segments, Rates(*map(np.float32, rates)))
        yield np.asarray(nats).reshape(-1, 1)


@jax.jit
def _learn_window(
    state: Adaptation, first: Network, segments: tuple[Array, Array, Array], rates: Rates
) -> tuple[Adaptation, Array]:
    return lax.scan(partial(_learn_segment, first, rates), state, segments)


def _learn_segment(
    first: Network, rates: Rates, state: Adaptation, segment: tuple[Array, Array, Array]
) -> tuple[Adaptation, Array]:
    """Score a segment, then learn it."""
    inputs, targets, resets = segment

    def loss_of(network: Network) -> tuple[Array, tuple[Array, Carry]]:
        logits, carry = network(inputs, resets, state.carry, precision="float32")
        chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
        nats = jnp.where(targets >= 0, jax.nn.logsumexp(logits, -1) - chosen, 0.0)
        return nats.mean(), (nats, carry)

    gradient, (nats, carry) = jax.grad(loss_of, has_aux=True)(state.network)
    squares = jax.tree.map(lambda total, g: total + g * g, state.squares, gradient)
    count = state.segments + 1
    scale = jax.tree.map(lambda total: jnp.sqrt(total / count), squares)
    mean = sum(part.sum() for part in jax.tree.leaves(scale)) / sum(part.size for part in jax.tree.leaves(scale))
    warm = count / (count + _PRIOR)

    def moved(weight: Array, start: Array, g: Array, rms: Array) -> Array:
        back = jnp.minimum(rates.decay * rms / (mean + _EPSILON), 1.0)
        return weight - rates.learning * warm * g / (rms + _EPSILON) + back * (start - weight)

    network = jax.tree.map(moved, state.network, first, gradient, scale)
    return Adaptation(network, squares, count, carry), nats
