"""What may come next after a text: a place in it that moves as the text grows, and a look ahead."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.generation.prepared import Prepared, rows_of_one
from charrnn.nn.arrays import Array, Carry, log_sum_exp
from charrnn.nn.network import before_any
from charrnn.text.vocabulary import EOS, UNK

_WINDOW = 256
_LONGEST_WORD = 32
_PREFIXES = 32
"""Beginnings of words that the search for whole ones goes on from at a time."""


class Place(NamedTuple):
    """A place in a text.

    carry: the state after what was read, parts `[B, H]` of equal rows, as many as when one text is drawn: the
    products are then the same, and so are the probabilities. likelihoods: `[V]` float32, the log-probability
    of each id to come next.
    """

    carry: Carry
    likelihoods: Array


class Ahead(NamedTuple):
    """A continuation: its ids, and the log-probability of all of them together."""

    ids: tuple[int, ...]
    likelihood: float


@partial(jax.jit, static_argnames="precision")
def beginning(prepared: Prepared, precision: str) -> Place:
    """The start of a document."""
    carry = prepared.network.initial_carry(rows_of_one())
    return _after(prepared, carry, jnp.int32(before_any(prepared.table)), precision)


def _after(prepared: Prepared, carry: Carry, id: Array, precision: str) -> Place:
    """The place one character further."""
    network, table = prepared.network, prepared.table
    rows = jax.tree.leaves(carry)[0].shape[0]
    logits, carry = network.step(table, jnp.broadcast_to(id, rows), carry, precision)
    return Place(carry, _log_softmax(logits)[0].astype(jnp.float32))


def _log_softmax(logits: Array) -> Array:
    return logits - jnp.broadcast_to(log_sum_exp(logits)[..., None], logits.shape)


def read(
    prepared: Prepared,
    place: Place,
    ids: np.ndarray,
    precision: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Place, np.ndarray]:
    """The place after the ids `[N]`, and how surprising each was, `[N]` float32 nats.

    `progress` is told how many ids were read, and of how many.
    """
    nats = []
    for begin in range(0, len(ids), _WINDOW):
        window = np.asarray(ids[begin : begin + _WINDOW], np.int32)
        padded = np.pad(window, (0, _WINDOW - len(window)))
        place, surprise = _read_window(prepared, place, padded, np.int32(len(window)), precision)
        nats.append(np.asarray(surprise)[: len(window)])
        if progress is not None:
            progress(begin + len(window), len(ids))
    return place, np.concatenate(nats or [np.zeros(0, np.float32)])


@partial(jax.jit, static_argnames="precision")
def _read_window(prepared: Prepared, place: Place, ids: Array, count: Array, precision: str) -> tuple[Place, Array]:
    def body(t: Array, state: tuple[Place, Array]) -> tuple[Place, Array]:
        place, nats = state
        nats = nats.at[t].set(-place.likelihoods[ids[t]])
        return _after(prepared, place.carry, ids[t], precision), nats

    return lax.fori_loop(0, count, body, (place, jnp.zeros(len(ids), jnp.float32)))


@partial(jax.jit, static_argnames=("length", "precision"))
def _likeliest(prepared: Prepared, place: Place, length: int, precision: str) -> tuple[Array, Array]:
    def body(place: Place, _: None) -> tuple[Place, tuple[Array, Array]]:
        best = place.likelihoods.at[UNK].set(-jnp.inf).argmax().astype(jnp.int32)
        return _after(prepared, place.carry, best, precision), (best, place.likelihoods[best])

    return lax.scan(body, place, None, length)[1]


def likeliest(prepared: Prepared, place: Place, length: int, precision: str) -> Ahead:
    """The likeliest id, then the likeliest after it, and so on for `length` ids, or to EOS, which is the last."""
    ids, likelihoods = (np.asarray(part) for part in _likeliest(prepared, place, length, precision))
    ends = np.flatnonzero(ids == EOS)
    size = int(ends[0]) + 1 if len(ends) else length
    return Ahead(tuple(ids[:size].tolist()), float(likelihoods[:size].sum()))


class Kinds(NamedTuple):
    """What each id is to words, all `[V]` bool: part of one, the space before one, or (neither) a sign by itself."""

    word: np.ndarray
    space: np.ndarray


def words(prepared: Prepared, place: Place, kinds: Kinds, top: int, precision: str, anew: bool = False) -> list[Ahead]:
    """The `top` likeliest next words, best first; in the middle of a word, the rests of it.

    anew: the text's last word is known to be whole, and the probabilities are those of what may follow then.
    A word comes with the spaces before it; its probability is that of its letters and of any end after
    them. A sign that is part of no word stands alone, and so does EOS. The search keeps the likeliest
    beginnings, 32 at a time.
    """
    found: list[Ahead] = []
    prefixes = [Ahead((), 0.0)]
    carry = jax.tree.map(lambda part: np.repeat(np.asarray(part)[:1], _PREFIXES, 0), place.carry)
    table = np.asarray(place.likelihoods)[None].astype(np.float64)
    ends = table[:, ~kinds.word]
    if anew and np.isfinite(ends).any():
        table = np.where(kinds.word, -np.inf, table) - np.logaddexp.reduce(ends, axis=1)
    for _ in range(_LONGEST_WORD):
        longer = []
        for row, prefix in enumerate(prefixes):
            done, going = _extensions(prefix, row, table[row], kinds)
            found += done
            longer += going
        found = sorted(found, key=lambda ahead: -ahead.likelihood)[:top]
        longer = sorted(longer, key=lambda entry: -entry[0].likelihood)[:_PREFIXES]
        if len(found) == top:
            longer = [entry for entry in longer if entry[0].likelihood > found[-1].likelihood]
        if not longer:
            break
        prefixes = [prefix for prefix, _ in longer]
        parents = _padded([row for _, row in longer])
        carry, logs = _extend(prepared, carry, parents, _padded([prefix.ids[-1] for prefix in prefixes]), precision)
        table = np.asarray(logs).astype(np.float64)
    return found


def _extensions(
    prefix: Ahead, row: int, likelihoods: np.ndarray, kinds: Kinds
) -> tuple[list[Ahead], list[tuple[Ahead, int]]]:
    """What a beginning may become: whole words, and longer beginnings with the row they come from."""
    total = prefix.likelihood + likelihoods
    started = bool(prefix.ids) and bool(kinds.word[prefix.ids[-1]])
    goes_on = kinds.word if started else kinds.word | kinds.space
    going = [(ahead, row) for ahead in _longer(prefix, total, goes_on)]
    if started:  # any end will do
        return [Ahead(prefix.ids, float(np.logaddexp.reduce(total[~kinds.word])))], going
    return _longer(prefix, total, ~goes_on), going


def _longer(prefix: Ahead, total: np.ndarray, allowed: np.ndarray) -> list[Ahead]:
    """The likeliest beginnings that are one of the allowed ids longer; UNK is none of them."""
    values = np.where(allowed, total, -np.inf)
    values[UNK] = -np.inf
    order = np.argsort(-values, kind="stable")[:_PREFIXES]
    return [Ahead((*prefix.ids, int(i)), float(values[i])) for i in order if np.isfinite(values[i])]


def _padded(numbers: list[int]) -> np.ndarray:
    return np.array(numbers + [0] * (_PREFIXES - len(numbers)), np.int32)


@partial(jax.jit, static_argnames="precision")
def _extend(prepared: Prepared, carry: Carry, parents: Array, ids: Array, precision: str) -> tuple[Carry, Array]:
    """Feed an id to the state of each parent row: the new states, and what may come next, `[P, V]`."""
    network, table = prepared.network, prepared.table
    states = jax.tree.map(lambda part: part[parents], carry)
    logits, after = network.step(table, ids, states, precision)
    return after, _log_softmax(logits)
