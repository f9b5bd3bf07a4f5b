"""How surprising given ids are to a network, window by window with the state carried."""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from charrnn.nn.arrays import Array, Carry
from charrnn.nn.network import Network

Window = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs, targets (-1: not scored) and resets, each `[T, B]`; `B` is the same in all windows."""


def score(network: Network, windows: Iterable[Window], precision: str) -> Iterator[np.ndarray]:
    """Yield the nats of each window's targets, `[T, B]` float32, 0 where nothing is scored."""
    for nats, _ in _scored(network, windows, precision):
        yield nats


def total(network: Network, windows: Iterable[Window], precision: str) -> tuple[float, int]:
    """The sum of the nats over all windows, and how many targets were scored; one window is held at a time."""
    nats, count = 0.0, 0
    for window_nats, targets in _scored(network, windows, precision):
        nats += float(window_nats.sum(dtype=np.float64))
        count += int((targets >= 0).sum())
    return nats, count


def _scored(network: Network, windows: Iterable[Window], precision: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each window's nats and targets, both `[T, B]`."""
    carry = None
    for inputs, targets, resets in windows:
        carry = network.initial_carry(inputs.shape[1]) if carry is None else carry
        # One integer type, so that one shape is one compilation.
        ids, wanted = np.asarray(inputs, np.int32), np.asarray(targets, np.int32)
        nats, carry = _score_window(network, ids, wanted, np.asarray(resets, bool), carry, precision)
        yield np.asarray(nats), wanted


@partial(jax.jit, static_argnames="precision")
def _score_window(
    network: Network, inputs: Array, targets: Array, resets: Array, carry: Carry, precision: str
) -> tuple[Array, Carry]:
    logits, carry = network(inputs, resets, carry, precision=precision)
    chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    nats = jax.nn.logsumexp(logits, -1) - chosen
    return jnp.where(targets >= 0, nats, 0.0).astype(jnp.float32), carry
