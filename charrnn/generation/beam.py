"""Beam search: the continuations of the highest log-probability a character, as far as a width sees."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.generation.decode import Rows, read, start
from charrnn.generation.filters import Filter
from charrnn.generation.prepared import Prepared
from charrnn.nn.arrays import Array
from charrnn.text.vocabulary import EOS

_STEPS = 32


class Found(NamedTuple):
    """A continuation: its ids `[C]`, an EOS included where it ended, and their log-probabilities `[C]` in nats."""

    ids: np.ndarray
    log_probabilities: np.ndarray

    @property
    def score(self) -> float:
        """What the search maximises: the mean log-probability of a character."""
        return float(self.log_probabilities.sum(dtype=np.float64)) / max(len(self.ids), 1)


class _Step(NamedTuple):
    """One step's choices, all `[B]`: of each beam the id, its log-probability, the sum of all so far (-inf: there
    is no such beam) and the beam it goes on from; and of each beam before, ended here, the same two figures."""

    ids: Array
    log_probabilities: Array
    totals: Array
    parents: Array
    end_log_probabilities: Array
    end_totals: Array


def search(
    prepared: Prepared,
    prompt_ids: np.ndarray,
    filters: Sequence[Filter],
    *,
    width: int,
    length: int,
    precision: str = "float32",
) -> list[Found]:
    """The best continuations of at most `length` characters, at most `width`, the best first.

    `filters` say what may follow; scores are the model's own log-probabilities. A continuation ends with
    EOS or at the length.
    """
    beginning = start(prepared, read(prepared, prompt_ids, precision), filters)
    rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, width, 0), beginning)
    totals = jnp.full(width, -jnp.inf).at[0].set(0.0)  # the beams start as one
    history: list[_Step] = []
    ends: list[tuple[float, int, int]] = []
    while len(history) < length and np.isfinite(totals).any():
        taken, rows, totals = _advance(prepared, tuple(filters), rows, totals, precision)
        steps = [_Step(*parts) for parts in zip(*(np.asarray(part) for part in taken), strict=True)]
        for step in steps[: length - len(history)]:
            count = len(history) + 1
            ends += [(float(step.end_totals[beam]) / count, len(history), beam) for beam in range(width)]
            history.append(step)
        ends = sorted((end for end in ends if end[0] > -np.inf), reverse=True)[:width]
        # Totals only fall, so no longer text can score better than the best total over the full length.
        if len(ends) == width and float(totals.max()) / length < ends[-1][0]:
            break
    found = [_ended(history, step, beam) for _, step, beam in ends]
    if len(history) == length:
        found += [_traced(history, length, int(beam)) for beam in np.flatnonzero(history[-1].totals > -np.inf)]
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
        width, vocabulary_size = logs.shape
        going = (totals[:, None] + logs).at[:, EOS].set(-jnp.inf)
        best, places = lax.top_k(going.reshape(-1), width)
        parents, ids = places // vocabulary_size, (places % vocabulary_size).astype(jnp.int32)
        memories = jax.tree.map(lambda leaf: leaf[parents], rows.memories)
        after = rows._replace(
            carry=jax.tree.map(lambda leaf: leaf[parents], carry),
            previous=ids,
            memories=tuple(one.update(memory, ids) for one, memory in zip(filters, memories, strict=True)),
            position=rows.position + 1,
        )
        return (after, best), _Step(ids, logs[parents, ids], best, parents, logs[:, EOS], totals + logs[:, EOS])

    (rows, totals), steps = lax.scan(body, (rows, totals), None, _STEPS)
    return steps, rows, totals


def _traced(history: list[_Step], count: int, beam: int) -> Found:
    """The first `count` characters of what leads to a beam."""
    ids, log_probabilities = np.zeros(count, np.int32), np.zeros(count, np.float32)
    for place in range(count - 1, -1, -1):
        step = history[place]
        ids[place], log_probabilities[place] = step.ids[beam], step.log_probabilities[beam]
        beam = int(step.parents[beam])
    return Found(ids, log_probabilities)


def _ended(history: list[_Step], count: int, beam: int) -> Found:
    """What leads to a beam after `count` characters, and EOS."""
    before = _traced(history, count, beam)
    last = history[count].end_log_probabilities[beam]
    return Found(np.append(before.ids, np.int32(EOS)), np.append(before.log_probabilities, last))
