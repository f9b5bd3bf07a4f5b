"""How surprising given ids are to a network, window by window with the state carried.

One stream is read with the very products that draw text, a character at a time, so that a text's score is the
sum of the log-probabilities it was drawn with. Several are read as training reads them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from charrnn.generation.prepared import Prepared, prepare, rows_of_one
from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry, log_sum_exp
from charrnn.nn.network import Network, before_any
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
    score_window, carry, pending = None, None, None
    for inputs, targets, resets in windows:
        # One integer type, so that one shape is one compilation.
        ids, wanted = np.asarray(inputs, np.int32), np.asarray(targets, np.int32)
        if score_window is None:
            score_window, carry = _reading(network, inputs.shape[1], precision, top)
        result, carry = score_window(ids, wanted, np.asarray(resets, bool), carry)
        if pending:
            yield _fetched(pending[0]), pending[1]
        pending = result, wanted
    if pending:
        yield _fetched(pending[0]), pending[1]


def _reading(network: Network, streams: int, precision: str, top: int) -> tuple[Callable[..., Any], Carry]:
    """What scores a window of so many streams, and the state before the first."""
    if streams == 1:
        prepared = prepare(network, precision)
        carry = network.initial_carry(rows_of_one())
        return partial(_score_as_drawn, prepared, precision=precision, top=top), carry
    shards, carry = shards_for(streams, network.layers[0].hidden_size), network.initial_carry(streams)
    if shards > 1:
        network = jax.device_put(network, NamedSharding(mesh_of(shards), P()))
        carry = jax.device_put(carry, NamedSharding(mesh_of(shards), P(ROWS)))
    return partial(_score_window, network, precision=precision, top=top, shards=shards), carry


def _fetched(result: Scored) -> Scored:
    return Scored(*map(np.asarray, result))


@partial(jax.jit, static_argnames=("precision", "top"))
def _score_as_drawn(
    prepared: Prepared, inputs: Array, targets: Array, resets: Array, carry: Carry, precision: str, top: int
) -> tuple[Scored, Carry]:
    """A window of one stream. Every row of the state reads the same: there are as many as when one text is drawn."""
    network, table = prepared.network, prepared.table
    rows = jax.tree.leaves(carry)[0].shape[0]

    def body(carry: Carry, here: tuple[Array, Array]) -> tuple[Carry, Array]:
        id, starts = here
        before, fresh = (jnp.broadcast_to(part, rows) for part in (jnp.where(starts, before_any(table), id), starts))
        carry = jax.tree.map(lambda part: jnp.where(fresh[:, None], jnp.zeros_like(part), part), carry)
        logits, carry = network.step(table, before, carry, precision)
        return carry, logits

    carry, logits = lax.scan(body, carry, (inputs, resets))
    logits = logits[:, :1]
    return _scored_by(logits, log_sum_exp(logits), targets, top), carry


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
    return _scored_by(logits, jax.nn.logsumexp(logits, -1), targets, top), carry


def _scored_by(logits: Array, sums: Array, targets: Array, top: int) -> Scored:
    """What the targets `[T, B]` were to these logits; `sums [T, B]` are the logs of their exponentials' sums."""
    chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    nats = jnp.where(targets >= 0, sums - chosen, 0.0).astype(jnp.float32)
    best, ids = lax.top_k(logits, min(top, logits.shape[-1]))
    return Scored(nats, ids, best - jnp.broadcast_to(sums[..., None], best.shape))
