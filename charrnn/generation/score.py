"""How surprising given ids are to a network, window by window with the state carried."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry
from charrnn.nn.network import Network
from charrnn.nn.sharding import ROWS, mesh_of, shards_for

Window = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs, targets (-1: not scored) and resets, each `[T, B]`; `B` is the same in all windows."""


class Scored(NamedTuple):
    """What a window's targets were to the network.

    nats: `[T, B]` float32, 0 where nothing is scored. ids: `[T, B, K]` int32, the likeliest, best
    first, and likelihoods `[T, B, K]`, their log-probabilities.
    """

    nats: Any
    ids: Any
    likelihoods: Any


def score(network: Network, windows: Iterable[Window], precision: str) -> Iterator[np.ndarray]:
    """Yield the nats of each window's targets, `[T, B]` float32, 0 where nothing is scored."""
    for scored, _ in _scored(network, windows, precision, 0):
        yield scored.nats


def total(network: Network, windows: Iterable[Window], precision: str) -> tuple[float, int]:
    """The sum of the nats over all windows, and how many targets were scored; few windows are held at a time."""
    nats, count = 0.0, 0
    for scored, targets in _scored(network, windows, precision, 0):
        nats += float(scored.nats.sum(dtype=np.float64))
        count += int((targets >= 0).sum())
    return nats, count


def guesses(network: Network, windows: Iterable[Window], precision: str, top: int) -> Iterator[Scored]:
    """Yield what each window's targets were, with the `top` ids that the network held likeliest there."""
    for scored, _ in _scored(network, windows, precision, top):
        yield scored


def _scored(
    network: Network, windows: Iterable[Window], precision: str, top: int
) -> Iterator[tuple[Scored, np.ndarray]]:
    """Each window's result and targets. While one is worked out the next is made ready."""
    carry, shards, pending = None, 1, None
    for inputs, targets, resets in windows:
        # One integer type, so that one shape is one compilation.
        ids, wanted = np.asarray(inputs, np.int32), np.asarray(targets, np.int32)
        if carry is None:
            shards = shards_for(inputs.shape[1], network.layers[0].hidden_size)
            carry = network.initial_carry(inputs.shape[1])
            if shards > 1:
                network = jax.device_put(network, NamedSharding(mesh_of(shards), P()))
                carry = jax.device_put(carry, NamedSharding(mesh_of(shards), P(ROWS)))
        result, carry = _score_window(network, ids, wanted, np.asarray(resets, bool), carry, precision, top, shards)
        if pending:
            yield _fetched(pending[0]), pending[1]
        pending = result, wanted
    if pending:
        yield _fetched(pending[0]), pending[1]


def _fetched(result: Scored) -> Scored:
    return Scored(*map(np.asarray, result))


@partial(jax.jit, static_argnames=("precision", "top", "shards"), compiler_options=COMPILER_OPTIONS)
def _score_window(
    network: Network, inputs: Array, targets: Array, resets: Array, carry: Carry, precision: str, top: int, shards: int
) -> tuple[Scored, Carry]:
    score_rows = partial(_score_rows, precision, top)
    if shards == 1:
        return score_rows(network, inputs, targets, resets, carry)
    rows, state_rows = P(None, ROWS), P(ROWS)
    return jax.shard_map(
        score_rows, mesh=mesh_of(shards), check_vma=False,
        in_specs=(P(), rows, rows, rows, state_rows), out_specs=(rows, state_rows),
    )(network, inputs, targets, resets, carry)  # fmt: skip


def _score_rows(
    precision: str, top: int, network: Network, inputs: Array, targets: Array, resets: Array, carry: Carry
) -> tuple[Scored, Carry]:
    """A window's rows on one device."""
    logits, carry = network(inputs, resets, carry, precision=precision)
    chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    sums = jax.nn.logsumexp(logits, -1)
    nats = jnp.where(targets >= 0, sums - chosen, 0.0).astype(jnp.float32)
    best, ids = lax.top_k(logits, min(top, logits.shape[-1]))
    return Scored(nats, ids, best - jnp.broadcast_to(sums[..., None], best.shape)), carry
