"""Drawing ids from a network: the prompt is read once, then one jitted loop a chunk of characters.

Each row draws with its own key, folded with the position, so a seed gives the same text alone, in
a batch, streamed or not, and whatever the chunks' sizes.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.config import SampleConfig
from charrnn.generation.filters import Filter, filters_for
from charrnn.nn.arrays import Array, Carry
from charrnn.nn.network import Network
from charrnn.text.vocabulary import EOS

_PROMPT_WINDOW = 256
_FIRST_CHUNK, _LATER_CHUNKS = 32, 256


class Rows(NamedTuple):
    """Texts in the making, side by side.

    carry: the network's state. previous: `[B]` ids last drawn. fresh: `[B]` bool, nothing came
    before (zero state, zero input). keys: `[B]`. position: `[B]` characters drawn. ended: `[B]` bool.
    """

    carry: Carry
    previous: Array
    fresh: Array
    keys: Array
    position: Array
    ended: Array


def row_keys(seed: int, first_row: int, rows: int) -> Array:
    """A key for each row: the seed's, folded with the row's number."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(first_row, first_row + rows))


@partial(jax.jit, static_argnames="precision")
def _read(network: Network, ids: Array, first: Array, count: Array, carry: Carry, precision: str) -> Carry:
    """Advance a one-row state by the first `count` of a window of ids `[T]`; `first` resets it before."""
    table = network.first_projections(precision)

    def body(t: Array, carry: Carry) -> Carry:
        return network.step(table, lax.dynamic_slice(ids, (t,), (1,)), fresh, carry, precision)[1]

    fresh = jnp.zeros(1, bool)
    # Before a text's first character the input is zero; it is read like any other step.
    start = network.step(table, jnp.zeros(1, jnp.int32), jnp.ones(1, bool), carry, precision)[1]
    carry = jax.tree.map(lambda a, b: jnp.where(first, a, b), start, carry)
    return lax.fori_loop(0, count, body, carry)


def start(
    network: Network, prompt_ids: np.ndarray, seed: int, rows: int, first_row: int = 0, *, precision: str = "float32"
) -> Rows:
    """Read the prompt `[P]` but its last character, once, and give every row the state after it."""
    carry, length = network.initial_carry(1), len(prompt_ids)
    read = prompt_ids[:-1].astype(np.int32)
    for begin in range(0, max(len(read), 1) if length else 0, _PROMPT_WINDOW):
        window = read[begin : begin + _PROMPT_WINDOW]
        padded = np.pad(window, (0, _PROMPT_WINDOW - len(window)))
        carry = _read(network, padded, np.bool_(begin == 0), np.int32(len(window)), carry, precision)
    return Rows(
        carry=jax.tree.map(lambda part: jnp.repeat(part, rows, 0), carry),
        previous=jnp.full(rows, prompt_ids[-1] if length else EOS, jnp.int32),
        fresh=jnp.full(rows, length == 0),
        keys=row_keys(seed, first_row, rows),
        position=jnp.zeros(rows, jnp.int32),
        ended=jnp.zeros(rows, bool),
    )


@partial(jax.jit, static_argnames=("filters", "length", "precision"))
def draw(
    network: Network, rows: Rows, filters: tuple[Filter, ...], length: int, precision: str
) -> tuple[Array, Array, Rows]:
    """Draw `length` characters for every row.

    Returns ids `[length, B]`, their log-probabilities `[length, B]` in nats under the unfiltered
    distribution, and the rows after. A row that has ended yields EOS with log-probability 0.
    """
    table = network.first_projections(precision)
    noise = _gumbel_noise(rows, length, network.head_bias.shape[0])

    def body(rows: Rows, noise: Array) -> tuple[Rows, tuple[Array, Array]]:
        logits, carry = network.step(table, rows.previous, rows.fresh, rows.carry, precision)
        filtered = logits
        for apply in filters:
            filtered = apply(filtered)
        # Gumbel-max: the argmax of logits plus Gumbel noise is a draw from their softmax.
        drawn = jnp.where(rows.ended, EOS, (filtered + noise).argmax(-1).astype(jnp.int32))
        chosen = jnp.take_along_axis(logits, drawn[:, None], -1)[:, 0]
        log_probability = jnp.where(rows.ended, 0.0, chosen - jax.nn.logsumexp(logits, -1))
        after = Rows(
            carry, drawn, jnp.zeros_like(rows.fresh), rows.keys, rows.position + 1, rows.ended | (drawn == EOS)
        )
        return after, (drawn, log_probability)

    after, (ids, log_probabilities) = lax.scan(body, rows, noise)
    return ids, log_probabilities, after


def _gumbel_noise(rows: Rows, length: int, vocabulary_size: int) -> Array:
    """The noise of the next `length` characters, `[length, B, V]`, drawn ahead of the loop."""

    def of(key: Array, position: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, position), (vocabulary_size,))

    positions = rows.position + jnp.arange(length)[:, None]
    return jax.vmap(jax.vmap(of), (None, 0))(rows.keys, positions)


def stream(
    network: Network,
    prompt_ids: np.ndarray,
    config: SampleConfig,
    *,
    vocabulary_size: int,
    seed: int,
    rows: int = 1,
    first_row: int = 0,
    precision: str = "float32",
    chunk: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield chunks of ids `[C, B]` and log-probabilities `[C, B]` until all rows end or the length is reached.

    The first chunk is short, so that the first characters come at once; `chunk` fixes the size.
    """
    if not config.length:
        return
    filters = filters_for(config, vocabulary_size)
    state = start(network, prompt_ids, seed, rows, first_row, precision=precision)
    drawn, size = 0, chunk or _FIRST_CHUNK
    while drawn < config.length:
        ids, log_probabilities, state = draw(network, state, filters, size, precision)
        left = config.length - drawn
        yield np.asarray(ids)[:left], np.asarray(log_probabilities)[:left]
        if bool(state.ended.all()):
            return
        drawn += size
        size = chunk or (_LATER_CHUNKS if config.length - drawn > 4 * _FIRST_CHUNK else _FIRST_CHUNK)
