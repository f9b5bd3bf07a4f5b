"""Drawing ids from a network: the prompt is read once, then texts are drawn side by side in one jitted loop.

Texts are numbered, and a text's noise is that of its number and the position in it; so a seed gives the
same text alone, in a batch, streamed or not, and whatever the chunks' sizes. The logits too must not
depend on what is drawn beside them: see `prepared.plan_for`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.generation.filters import Filter, Memory
from charrnn.generation.noise import gumbel
from charrnn.generation.prepared import Arranged, Prepared, rows_of_one
from charrnn.nn import joint
from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry, index_of_largest, log_sum_exp
from charrnn.nn.joint import Ahead
from charrnn.nn.layout import COLUMNS, turned
from charrnn.nn.network import before_any
from charrnn.text.vocabulary import EOS

GOING, AT_EOS, AT_STOP, AT_LENGTH = range(4)
"""Why a text ended, or that it has not."""

MOST_BLOCKS = 64
"""Blocks in a call of `draw`, at most."""

_BLOCK = 16
_STREAM_BLOCK = 128
_NOISE_AHEAD = 1 << 22
"""At most so many values of noise (and of logits) are held at a time, 16 MiB."""

_NARROW = 4096
"""Gates' units in all layers; a block of wider networks is short."""

_PROMPT_WINDOW = 4096


class Rows(NamedTuple):
    """Texts in the making, side by side; what is needed to draw their next characters.

    carry: the network's state, parts `[B, H]`, or columns `[H, B]` (`Arranged.axis`).
    previous: `[B]` int32, the characters before, or `before_any`.
    memories: one a filter.
    number: `[B]` int32, which text a row holds. position: `[B]` int32, characters drawn so far.
    ended: `[B]` int32, GOING or why the text ended; such a row is free for another text.
    known: what `joint` knows of the carry; of a row to start from nothing.
    """

    carry: Carry
    previous: Array
    memories: tuple[Memory, ...]
    number: Array
    position: Array
    ended: Array
    known: Ahead = ()


class Beginning(NamedTuple):
    """A prompt that was read: its ids `[P]`, and the state before the last of them is the input, parts `[1, H]`."""

    ids: np.ndarray
    carry: Carry


class Queue(NamedTuple):
    """What is still to be drawn.

    seed: uint32. next: the number of the next text to begin, and the one after is `stride` further. limit: the
    number of the first that may not begin. length: characters a text may have. All scalars, the others int32.
    """

    seed: Array
    next: Array
    stride: Array
    limit: Array
    length: Array


class Drawn(NamedTuple):
    """What a call of `draw` drew, by block and row.

    ids, log_probabilities: `[blocks, block, B]`, the latter in nats under the model's unfiltered
    distribution. number, size, ended: `[blocks, B]`: which text, how many of the block's ids are its
    own (an EOS included), and whether and why it ended there.
    """

    ids: Array
    log_probabilities: Array
    number: Array
    size: Array
    ended: Array


def block_for(rows: int, prepared: Prepared) -> int:
    """How many characters a block has: for so many the noise is drawn ahead, and rows wait for another text.

    Long blocks are faster for single texts; those of wide networks would take too long to show.
    """
    vocabulary_size, width = before_any(prepared.table), prepared.table.shape[1]
    units = width * len(prepared.network.layers)
    usual = _STREAM_BLOCK if rows <= 2 and units <= _NARROW else _BLOCK
    return max(1, min(usual, _NOISE_AHEAD // (rows * vocabulary_size)))


def start(prepared: Prepared, beginning: Beginning, filters: Sequence[Filter]) -> Rows:
    """One row, about to go on from a prompt. Its last character is the input of the first draw."""
    prompt = beginning.ids
    row = Rows(
        carry=beginning.carry,
        previous=_one(prompt[-1] if len(prompt) else before_any(prepared.table)),
        memories=tuple(one.initial(prompt) for one in filters),
        number=_one(0),
        position=_one(0),
        ended=_one(GOING),
    )
    # NumPy's, like all that is made outside the loop: each of JAX's would be a program to compile.
    return jax.tree.map(np.asarray, row)


def _one(value: Any, dtype: type = np.int32) -> Any:
    return np.full(1, value, dtype)


def free_rows(ready: Arranged, start: Rows, count: int) -> Rows:
    """So many rows that hold no text yet."""
    rows = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), count, 0), start)
    known: list[Any] = [np.zeros((count, len(one.matrix)), np.float32) for one in ready.joints]
    states: tuple[Any, ...] = (rows.carry, tuple(known))
    if ready.axis == COLUMNS:
        states = jax.tree.map(lambda part: np.ascontiguousarray(part.T), states)
    return rows._replace(carry=states[0], known=states[1], ended=np.repeat(_one(AT_LENGTH), count))


def queue_of(seed: int, first: int, limit: int, length: int, stride: int = 1) -> Queue:
    """The texts from number `first` to before `limit`, or every `stride`th of them."""
    numbers: list[Any] = [np.uint32(seed), *(np.int32(number) for number in (first, stride, limit, length))]
    return Queue(*numbers)


def read(
    prepared: Prepared,
    prompt_ids: np.ndarray,
    precision: str,
    after: Beginning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Beginning:
    """Read all but the last of a prompt's ids `[P]`, once for all texts; an empty one is the start of a document.

    What the prompt begins with may have been read before: then it is the rest alone that takes time. `progress` is
    told how many ids were read, and of how many.
    """
    prompt, rows = np.asarray(prompt_ids, np.int32), rows_of_one()
    if after is None or not np.array_equal(prompt[: len(after.ids)], after.ids):
        zeros = jax.eval_shape(lambda: prepared.network.initial_carry(1))
        after = Beginning(prompt[:0], jax.tree.map(lambda part: np.zeros(part.shape, part.dtype), zeros))
    carry = jax.device_put(jax.tree.map(lambda part: np.repeat(np.asarray(part), rows, 0), after.carry))
    # Step t reads character t - 1; step 0 reads nothing, as at every start of a document.
    ids = np.concatenate([[before_any(prepared.table)], prompt[:-1]]).astype(np.int32)
    for begin in range(len(after.ids), len(prompt), _PROMPT_WINDOW):
        window = ids[begin : begin + _PROMPT_WINDOW]
        padded = np.pad(window, (0, _PROMPT_WINDOW - len(window)))
        carry = _read_window(prepared, padded, np.int32(len(window)), carry, precision)
        if progress is not None:
            jax.block_until_ready(carry)
            progress(begin + len(window), len(prompt))
    return Beginning(prompt, jax.tree.map(lambda part: np.asarray(part)[:1], carry))


@partial(jax.jit, static_argnames="precision")
def _read_window(prepared: Prepared, ids: Array, count: Array, carry: Carry, precision: str) -> Carry:
    """The state after the first `count` of the ids `[T]`.

    Every row reads the same: there are as many as when one text is drawn, so that the products are the same.
    """
    network, table = prepared.network, prepared.table
    rows = jax.tree.leaves(carry)[0].shape[0]

    def body(t: Array, carry: Carry) -> Carry:
        return network.step(table, jnp.broadcast_to(ids[t], rows), carry, precision)[1]

    return lax.fori_loop(0, count, body, carry)


@partial(jax.jit, static_argnames=("precision", "block"), donate_argnames="rows", compiler_options=COMPILER_OPTIONS)
def draw(
    ready: Arranged,
    filters: tuple[Filter, ...],
    start: Rows,
    rows: Rows,
    queue: Queue,
    blocks: Array,
    *,
    precision: str,
    block: int,
) -> tuple[Drawn, Array, Rows, Queue]:
    """Draw `blocks` (at most MOST_BLOCKS) blocks of `block` characters for every row.

    Before each block a row whose text has ended begins the queue's next one, at `start`. Returns what
    was drawn, how many blocks of it were (fewer where no text is left), the rows and the queue after.
    """
    size = len(rows.previous)
    start = _looking_ahead(ready, start, precision)
    texts = jnp.zeros((MOST_BLOCKS, size), jnp.int32)
    shape = (MOST_BLOCKS, block, size)
    drawn = Drawn(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32), texts, texts, texts)

    def body(state: tuple[Array, Rows, Queue, Drawn]) -> tuple[Array, Rows, Queue, Drawn]:
        done, rows, queue, drawn = state
        rows, queue = _refill(start, rows, queue, ready.axis)
        positions = rows.position[None] + jnp.arange(block, dtype=jnp.int32)[:, None]
        noise = gumbel(queue.seed, rows.number, positions, ready.vocabulary_size)
        after, (ids, logits, stops) = lax.scan(partial(_step, ready, filters, precision), rows, noise)
        own, ended = _ends(rows, ids, stops, queue.length)
        after = after._replace(position=rows.position + own, ended=ended)
        chosen = jnp.take_along_axis(logits, ids[..., None], -1)[..., 0]
        log_probabilities = (chosen - log_sum_exp(logits)).astype(jnp.float32)
        here = Drawn(ids, log_probabilities, rows.number, own, ended)
        return done + 1, after, queue, jax.tree.map(lambda all, one: all.at[done].set(one), drawn, here)

    def unfinished(state: tuple[Array, Rows, Queue, Drawn]) -> Array:
        done, rows, queue, _ = state
        return (done < blocks) & ((rows.ended == GOING).any() | (queue.next < queue.limit))

    done, rows, queue, drawn = lax.while_loop(unfinished, body, (jnp.int32(0), rows, queue, drawn))
    return drawn, done, rows, queue


def _looking_ahead(ready: Arranged, start: Rows, precision: str) -> Rows:
    """The row as it begins texts: with what `joint` knows of its carry, in the rows' layout."""
    rows = rows_of_one()  # read as several, so that the products are the same
    carry = jax.tree.map(lambda part: jnp.broadcast_to(part, (rows, *part.shape[1:])), start.carry)
    known = tuple(of[:1] for of in joint.ahead(ready.joints, carry, precision)) if ready.joints else ()
    turn = partial(jax.tree.map, partial(turned, axis=ready.axis))
    return start._replace(carry=turn(start.carry), known=turn(known))


def _refill(start: Rows, rows: Rows, queue: Queue, axis: int) -> tuple[Rows, Queue]:
    """Let rows whose text has ended begin the next ones."""
    free = rows.ended != GOING
    number = queue.next + queue.stride * (jnp.cumsum(free, dtype=jnp.int32) - 1)
    begins = free & (number < queue.limit)

    def begin(new: Array, old: Array) -> Array:
        return jnp.where(begins.reshape(-1, *[1] * (old.ndim - 1)), jnp.broadcast_to(new, old.shape), old)

    def begin_state(new: Array, old: Array) -> Array:
        return jnp.where(jnp.expand_dims(begins, axis), jnp.broadcast_to(new, old.shape), old)

    state, states = ((of.carry, of.known) for of in (start, rows))
    carry, known = jax.tree.map(begin_state, state, states)
    rest, rests = (of._replace(carry=(), known=()) for of in (start, rows))
    fresh = jax.tree.map(begin, rest, rests)._replace(carry=carry, known=known)
    fresh = fresh._replace(number=jnp.where(begins, number, rows.number))
    return fresh, queue._replace(next=queue.next + queue.stride * begins.sum(dtype=jnp.int32))


def _ends(rows: Rows, ids: Array, stops: Array | None, length: Array) -> tuple[Array, Array]:
    """How many of a block's ids `[block, B]` are each text's own, and whether and why it ended there, `[B]` each."""
    block, time = len(ids), jnp.arange(len(ids), dtype=jnp.int32)[:, None]
    ended = jnp.where(rows.position[None] + time + 1 >= length, AT_LENGTH, GOING)
    if stops is not None:
        ended = jnp.where(stops, AT_STOP, ended)
    ended = jnp.where(ids == EOS, AT_EOS, ended)
    last = jnp.where(ended == GOING, block - 1, jnp.broadcast_to(time, ended.shape)).min(0)
    going, why = rows.ended == GOING, jnp.take_along_axis(ended, last[None], 0)[0]
    return jnp.where(going, last + 1, 0), jnp.where(going, why, rows.ended)


def _step(
    ready: Arranged, filters: tuple[Filter, ...], precision: str, rows: Rows, noise: Array
) -> tuple[Rows, tuple[Array, Array, Array | None]]:
    """Draw one character a row with the noise `[B, V]`.

    Returns the rows after, the ids `[B]`, the logits `[B, V]`, and which texts stop, `[B]` bool, or None where no
    filter ends any.
    """
    logits, carry, known = ready.step(rows.previous, rows.carry, rows.known, precision)
    filtered = logits
    for one, memory in zip(filters, rows.memories, strict=True):
        filtered = one(filtered, memory)
    # Gumbel-max: the argmax of logits plus Gumbel noise is a draw from their softmax.
    drawn = index_of_largest(filtered + noise)
    memories = tuple(one.update(memory, drawn) for one, memory in zip(filters, rows.memories, strict=True))
    ends = [stops for one, memory in zip(filters, memories, strict=True) if (stops := one.ends(memory)) is not None]
    stops = jnp.stack(ends).any(0) if ends else None
    after = rows._replace(carry=carry, previous=drawn, memories=memories, known=known)
    return after, (drawn, logits, stops)
