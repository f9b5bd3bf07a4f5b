"""A filter that lets no run of characters appear twice, in a time that hardly grows with the text.

The characters before a place are its context. Places whose contexts have the same hash are chained, the latest
first, so that where the last characters of a text stood before is looked up and not searched for.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.generation.filters import Filter, Memory, numbers
from charrnn.nn.arrays import Array

_BASE = 0x9E3779B1
"""Of the polynomial, modulo 2**32, that hashes a context; its multiples' upper bits choose the chain."""

_NONE = -1


class History(NamedTuple):
    """What is remembered of texts `[B]`.

    ids: `[B, room]`. length: `[B]`. hash: `[B]` uint32, of the context of what comes next. latest: `[B, room]`, the
    last place of each chain. earlier: `[B, room]`, the place before each in its chain. last: `[B]`, the last place of
    the hash's chain. repeated: `[B, V]` bool, what would complete a run that stood in the text before.
    """

    ids: Array
    length: Array
    hash: Array
    latest: Array
    earlier: Array
    last: Array
    repeated: Array


@numbers("length")
@dataclass(frozen=True)
class NoRepeat(Filter):
    """Never complete a run of `size` characters that stood in the text before; the prompt counts.

    Where that leaves nothing, anything may follow. `length` is the most that may be drawn. Memory: a `History`.
    """

    size: int
    length: int
    vocabulary_size: int

    def initial(self, prompt: np.ndarray) -> Memory:
        room = 1 << (len(prompt) + self.length).bit_length()  # a power of two, so that few programs are compiled
        ids, latest, earlier = (np.full((1, room), fill, np.int32) for fill in (0, _NONE, _NONE))
        ids[0, : len(prompt)] = prompt
        hashes = _hashes(prompt, self.size - 1)
        chains = _chain(hashes, room)
        places = _first_runs(prompt, self.size)
        order = places[np.argsort(chains[places], kind="stable")]
        chained = chains[order][1:] == chains[order][:-1]
        earlier[0, order[1:][chained]] = order[:-1][chained]
        latest[0, chains[places]] = places  # of equal chains the last place stays
        repeated = np.zeros((1, self.vocabulary_size), bool)
        context = prompt[len(prompt) - self.size + 1 :]
        for place in places[hashes[places] == hashes[-1]]:
            repeated[0, prompt[place]] |= np.array_equal(prompt[place - self.size + 1 : place], context)
        length = np.full(1, len(prompt), np.int32)
        last = latest[:, chains[-1]]
        return History(ids, length, hashes[-1:], latest, earlier, last, repeated)  # type: ignore[arg-type] # see `start`

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        left = jnp.where(memory.repeated, -jnp.inf, logits)
        return jnp.where((left > -jnp.inf).any(-1, keepdims=True), left, logits)

    def update(self, memory: Memory, drawn: Array) -> Memory:
        ids, length, hash, latest, earlier, last, repeated = memory
        rows, room = jnp.arange(len(ids), dtype=jnp.int32), ids.shape[1]
        # A run that stood there before is in its chain already.
        new = (length >= self.size - 1) & ~repeated[rows, drawn]
        earlier = _put(earlier, jnp.where(new, length, room), last)
        latest = _put(latest, jnp.where(new, _chain(hash, room), room), length)
        ids = _put(ids, length, drawn)
        past = ids[rows, jnp.maximum(length - self.size + 1, 0)]  # leaves the context
        past = jnp.where(length >= self.size - 1, past, 0)
        leaving = past.astype(jnp.uint32) * np.uint32(pow(_BASE, self.size - 1, 2**32))
        hash = hash * np.uint32(_BASE) + drawn.astype(jnp.uint32) - leaving
        last = jnp.where(length + 1 >= self.size - 1, latest[rows, _chain(hash, room)], _NONE)
        return self._looked_up(History(ids, length + 1, hash, latest, earlier, last, repeated))

    def _looked_up(self, history: History) -> History:
        """With what stood before after the characters that now are the last."""
        ids, earlier = history.ids, history.earlier
        rows, back = jnp.arange(len(ids), dtype=jnp.int32), 1 + jnp.arange(self.size - 1, dtype=jnp.int32)[None]
        context = jnp.take_along_axis(ids, history.length[:, None] - back, 1, mode="clip")

        def further(state: tuple[Array, Array]) -> tuple[Array, Array]:
            place, repeated = state
            before = jnp.take_along_axis(ids, place[:, None] - back, 1, mode="clip")
            same = (place != _NONE) & (before == context).all(1)
            repeated = repeated.at[rows, ids[rows, place]].max(same)
            return jnp.where(place == _NONE, _NONE, earlier[rows, place]), repeated

        start = history.last, jnp.zeros(history.repeated.shape, bool)
        return history._replace(repeated=lax.while_loop(lambda at: (at[0] != _NONE).any(), further, start)[1])


def _chain(hashes: Any, chains: int) -> Any:
    """Which of so many chains (a power of two) the hashes belong to."""
    return ((hashes * np.uint32(_BASE)) >> np.uint32(33 - chains.bit_length())).astype(np.int32)


def _put(rows: Array, place: Array, value: Array) -> Array:
    """`rows [B, N]` with a value at a place of each; a place beyond the end changes nothing."""
    return rows.at[jnp.arange(len(rows), dtype=jnp.int32), place].set(value, mode="drop")


def _hashes(ids: np.ndarray, size: int) -> np.ndarray:
    """The hashes of the (up to) `size` ids before each place and before the end, `[P + 1]` uint32."""
    count = len(ids)
    powers, inverses = (
        np.cumprod(np.concatenate([[1], np.full(count, base)]), dtype=np.uint32)
        for base in (_BASE, pow(_BASE, -1, 2**32))
    )
    # With x the base, the ids before place i give sum of x**(i - 1 - k) id[k], which is x**(i - 1) times a difference.
    sums = np.concatenate([[0], np.cumsum(ids.astype(np.uint32) * inverses[:-1], dtype=np.uint32)]).astype(np.uint32)
    begins = np.maximum(np.arange(count + 1) - size, 0)
    return np.concatenate([[0], powers[:-1] * (sums - sums[begins])[1:]]).astype(np.uint32)


def _first_runs(ids: np.ndarray, size: int) -> np.ndarray:
    """Where each run of `size` ids that is in a text ends for the first time, in that order.

    Runs are numbered so that equal ones have equal numbers, twice as long ones each time (Karp, Miller and
    Rosenberg 1972).
    """
    if len(ids) < size:
        return np.zeros(0, np.int64)
    runs, covered = ids.astype(np.int64), 1
    while covered < size:
        more = min(covered, size - covered)
        runs = np.unique(runs[:-more] * (runs.max() + 1) + runs[more:], return_inverse=True)[1]
        covered += more
    return np.sort(np.unique(runs, return_index=True)[1]) + size - 1
