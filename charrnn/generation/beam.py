"""Beam search: the continuations of the highest log-probability a character, as far as a width sees."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.generation.decode import Beginning, Rows, read, start
from charrnn.generation.filters import Filter, Memory
from charrnn.generation.prepared import Prepared
from charrnn.nn.arrays import Array
from charrnn.text.vocabulary import EOS

_STEPS = 32


class Found(NamedTuple):
    """A continuation: its ids `[C]`, an EOS or a stop's included where it ended so, their log-probabilities `[C]` in
    nats, and why it ended: "eos", "stop" or "length"."""

    ids: np.ndarray
    log_probabilities: np.ndarray
    ended: str = "length"

    @property
    def score(self) -> float:
        """What the search maximises: the mean log-probability of a character."""
        return float(self.log_probabilities.sum(dtype=np.float64)) / max(len(self.ids), 1)


class _Best(NamedTuple):
    """The best one step longer, all `[B]`: the id, its log-probability, the sum of all so far (-inf: there is no such
    one), and the beam that it goes on from."""

    ids: Array
    log_probabilities: Array
    totals: Array
    parents: Array


class _Step(NamedTuple):
    """One step's choices: the next beams, and the texts that end here."""

    beams: _Best
    ends: _Best


def search(
    prepared: Prepared,
    prompt_ids: np.ndarray,
    filters: Sequence[Filter],
    *,
    width: int,
    length: int,
    precision: str = "float32",
    after: Beginning | None = None,
) -> list[Found]:
    """The best continuations of at most `length` characters, at most `width`, the best first.

    `filters` say what may follow and where texts stop; scores are the model's own log-probabilities. A continuation
    ends with EOS, with a stop or at the length. after: what was read before of what the prompt begins with.
    """
    beginning = start(prepared, read(prepared, prompt_ids, precision, after), filters)
    rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, width, 0), beginning)
    totals = jnp.full(width, -jnp.inf).at[0].set(0.0)  # the beams start as one
    history: list[_Step] = []
    ends: list[tuple[float, int, int]] = []
    while len(history) < length and np.isfinite(totals).any():
        taken, rows, totals = _advance(prepared, tuple(filters), rows, totals, precision)
        for step in _unstacked(taken)[: length - len(history)]:
            count = len(history) + 1
            ends += [(float(total) / count, len(history), end) for end, total in enumerate(step.ends.totals)]
            history.append(step)
        ends = sorted((end for end in ends if end[0] > -np.inf), reverse=True)[:width]
        # Totals only fall, so no longer text can score better than the best total over the full length.
        if len(ends) == width and float(totals.max()) / length < ends[-1][0]:
            break
    found = [_ended(history, step, end) for _, step, end in ends]
    if len(history) == length:
        found += [_traced(history, length, int(beam)) for beam in np.flatnonzero(history[-1].beams.totals > -np.inf)]
    return sorted(found, key=lambda one: -one.score)[:width]


@partial(jax.jit, static_argnames="precision")
def _advance(
    prepared: Prepared, filters: tuple[Filter, ...], rows: Rows, totals: Array, precision: str
) -> tuple[_Step, Rows, Array]:
    """Take some steps, their choices stacked along the first axis."""

    def body(state: tuple[Rows, Array], _: None) -> tuple[tuple[Rows, Array], _Step]:
        rows, totals = state
        logits, carry = prepared.network.step(prepared.table, rows.previous, rows.carry, precision)
        allowed = logits
        for one, memory in zip(filters, rows.memories, strict=True):
            allowed = one(allowed, memory)
        logs = jnp.where(allowed > -jnp.inf, jax.nn.log_softmax(logits, -1), -jnp.inf)
        every, ending = totals[:, None] + logs, _ending(filters, rows.memories, logs)
        beams = _best_of(jnp.where(ending, -jnp.inf, every), logs)
        memories = jax.tree.map(lambda leaf: leaf[beams.parents], rows.memories)
        after = rows._replace(
            carry=jax.tree.map(lambda leaf: leaf[beams.parents], carry),
            previous=beams.ids,
            memories=tuple(one.update(memory, beams.ids) for one, memory in zip(filters, memories, strict=True)),
            position=rows.position + 1,
        )
        return (after, beams.totals), _Step(beams, _best_of(jnp.where(ending, every, -jnp.inf), logs))

    (rows, totals), steps = lax.scan(body, (rows, totals), None, _STEPS)
    return steps, rows, totals


def _ending(filters: tuple[Filter, ...], memories: tuple[Memory, ...], logs: Array) -> Array:
    """With which ids texts would end, `[B, V]` bool."""
    ending = jnp.broadcast_to(jnp.arange(logs.shape[1]) == EOS, logs.shape)
    for one, memory in zip(filters, memories, strict=True):
        stops = one.ending(memory)
        ending = ending if stops is None else ending | stops
    return ending


def _best_of(totals: Array, logs: Array) -> _Best:
    """As many of the best `totals [B, V]` as there are beams."""
    width, vocabulary_size = totals.shape
    best, places = lax.top_k(totals.reshape(-1), width)
    parents, ids = places // vocabulary_size, (places % vocabulary_size).astype(jnp.int32)
    return _Best(ids, logs[parents, ids], best, parents)


def _unstacked(taken: _Step) -> list[_Step]:
    """Steps that are stacked, each by itself, in the host's memory."""
    host = jax.tree.map(np.asarray, taken)
    return [jax.tree.map(lambda leaf, k=k: leaf[k], host) for k in range(_STEPS)]


def _traced(history: list[_Step], count: int, beam: int) -> Found:
    """The first `count` characters of what leads to a beam."""
    ids, log_probabilities = np.zeros(count, np.int32), np.zeros(count, np.float32)
    for place in range(count - 1, -1, -1):
        step = history[place].beams
        ids[place], log_probabilities[place] = step.ids[beam], step.log_probabilities[beam]
        beam = int(step.parents[beam])
    return Found(ids, log_probabilities)


def _ended(history: list[_Step], count: int, number: int) -> Found:
    """What leads to one of the ends after `count` characters, with that end."""
    ends = history[count].ends
    before, id = _traced(history, count, int(ends.parents[number])), ends.ids[number]
    logs = np.append(before.log_probabilities, ends.log_probabilities[number])
    return Found(np.append(before.ids, id), logs, "eos" if id == EOS else "stop")
