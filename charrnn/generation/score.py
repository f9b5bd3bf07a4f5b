"""How surprising given ids are to a network, window by window with the state carried."""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from charrnn.nn.arrays import Array, Carry
from charrnn.nn.network import Network

Window = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs, targets (negative: not scored) and resets, each `[T, B]`."""


@partial(jax.jit, static_argnames="precision")
def _score_window(
    network: Network, inputs: Array, targets: Array, resets: Array, carry: Carry, precision: str
) -> tuple[Array, Carry]:
    logits, carry = network(inputs, resets, carry, precision=precision)
    chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return jnp.where(targets >= 0, jax.nn.logsumexp(logits, -1) - chosen, 0.0), carry


def score(network: Network, windows: Iterable[Window], precision: str) -> Iterator[np.ndarray]:
    """Yield the nats of each window's targets, `[T, B]`, 0 where nothing is scored."""
    carry = None
    for inputs, targets, resets in windows:
        carry = network.initial_carry(inputs.shape[1]) if carry is None else carry
        nats, carry = _score_window(network, inputs, targets, resets, carry, precision)
        yield np.asarray(nats)


def total(network: Network, windows: Iterable[Window], precision: str) -> tuple[float, int]:
    """The sum of the nats over all windows, and how many targets were scored."""
    windows = list(windows)
    nats = sum(float(window.sum(dtype=np.float64)) for window in score(network, windows, precision))
    return nats, sum(int((targets >= 0).sum()) for _, targets, _ in windows)
