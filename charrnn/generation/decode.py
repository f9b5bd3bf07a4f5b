"""Drawing ids from a network: the prompt is read once, then one jitted loop a chunk of characters.

Each row draws with its own key, folded with the position, so a seed gives the same text alone, in a
batch, streamed or not, and whatever the chunks' sizes. (The noise is the same to the bit; the logits
of another batch size may be rounded otherwise, which a long text may in the end show.)
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
from charrnn.nn.arrays import Array, Carry, storage_type
from charrnn.nn.network import Network
from charrnn.text.vocabulary import EOS

_PROMPT_WINDOW = 4096
_NOISE_AHEAD = 1 << 22
"""At most so many values of noise (and of logits) are held at a time, 16 MiB."""

_GROWTH = 4
"""A stream's later chunks are so many times as long as its first."""


class Rows(NamedTuple):
    """Texts in the making, side by side; what is needed to draw their next characters.

    carry: the network's state, parts `[B, H]`. previous: `[B]` int32, the characters before.
    fresh: `[B]` bool, there is none before (zero state, zero input). keys: `[B]`, a key a row.
    position: `[B]` int32, characters drawn so far. ended: `[B]` bool, EOS was drawn.
    """

    carry: Carry
    previous: Array
    fresh: Array
    keys: Array
    position: Array
    ended: Array


def row_keys(seed: int, first_row: int, rows: int) -> Array:
    """A key for each row `[B]`: the seed's, folded with the row's number."""
    numbers = jnp.arange(first_row, first_row + rows, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(np.uint32(seed)), numbers)


class Prepared(NamedTuple):
    """A network made ready for many single steps.

    network: its matrices rounded to the precision. table: `first_projections`, `[V, G*H]`.
    """

    network: Network
    table: Array


@partial(jax.jit, static_argnames="precision")
def prepare(network: Network, precision: str) -> Prepared:
    """Do once what each step would otherwise do again."""
    storage = storage_type(precision, network.head_kernel.dtype)
    rounded = jax.tree.map(lambda weights: weights.astype(storage) if weights.ndim == 2 else weights, network)
    return Prepared(rounded, network.first_projections(precision).astype(storage))


def start(
    network: Network, prompt_ids: np.ndarray, seed: int, rows: int, first_row: int = 0, *, precision: str = "float32"
) -> Rows:
    """Rows about to go on from a prompt `[P]`.

    All but its last character are read here, once and for all rows; the last is the input of the
    first draw. An empty prompt is the start of a document.
    """
    return _start(prepare(network, precision), prompt_ids, row_keys(seed, first_row, rows), precision)


def _start(prepared: Prepared, prompt_ids: np.ndarray, keys: Array, precision: str) -> Rows:
    prompt, rows = np.asarray(prompt_ids, np.int32), len(keys)
    carry = _read(prepared, prompt, precision)
    return Rows(
        carry=jax.tree.map(lambda part: jnp.repeat(part, rows, 0), carry),
        previous=jnp.full(rows, prompt[-1] if len(prompt) else EOS, jnp.int32),
        fresh=jnp.full(rows, len(prompt) == 0),
        keys=keys,
        position=jnp.zeros(rows, jnp.int32),
        ended=jnp.zeros(rows, bool),
    )


def _read(prepared: Prepared, prompt: np.ndarray, precision: str) -> Carry:
    """The state, parts `[1, H]`, before the prompt's last character is the input."""
    carry = prepared.network.initial_carry(1)
    # Step t reads character t - 1; step 0 reads nothing, as at every start of a document.
    read = np.concatenate([[EOS], prompt[:-1]]).astype(np.int32)
    for begin in range(0, len(prompt), _PROMPT_WINDOW):
        window = read[begin : begin + _PROMPT_WINDOW]
        padded = np.pad(window, (0, _PROMPT_WINDOW - len(window)))
        carry = _read_window(prepared, padded, np.int32(len(window)), np.bool_(begin == 0), carry, precision)
    return carry


@partial(jax.jit, static_argnames="precision")
def _read_window(prepared: Prepared, ids: Array, count: Array, starts: Array, carry: Carry, precision: str) -> Carry:
    """The state after the first `count` of the ids `[T]`; `starts` is true where they start a document."""
    network, table = prepared

    def body(t: Array, carry: Carry) -> Carry:
        fresh = (starts & (t == 0))[None]
        return network.step(table, lax.dynamic_slice(ids, (t,), (1,)), fresh, carry, precision)[1]

    return lax.fori_loop(0, count, body, carry)


@partial(jax.jit, static_argnames=("filters", "length", "precision"))
def draw(
    network: Network, rows: Rows, filters: tuple[Filter, ...], length: int, precision: str
) -> tuple[Array, Array, Rows]:
    """Draw `length` characters for every row.

    Returns ids `[length, B]` int32, their log-probabilities `[length, B]` in nats under the model's
    unfiltered distribution, and the rows after. A row that has ended yields EOS with log-probability 0.
    """
    return _draw(prepare(network, precision), rows, filters, length, precision)


@partial(jax.jit, static_argnames=("filters", "length", "precision"))
def _draw(
    prepared: Prepared, rows: Rows, filters: tuple[Filter, ...], length: int, precision: str
) -> tuple[Array, Array, Rows]:
    batch_size, vocabulary_size = len(rows.previous), prepared.table.shape[0]

    def block(rows: Rows, _: None) -> tuple[Rows, tuple[Array, Array]]:
        noise = _noise(rows, size, vocabulary_size)
        after, (ids, logits, ended) = lax.scan(partial(_step, prepared, filters, precision), rows, noise)
        chosen = jnp.take_along_axis(logits, ids[..., None], -1)[..., 0]
        log_probabilities = jnp.where(ended, 0.0, chosen - jax.nn.logsumexp(logits, -1))
        return after, (ids, log_probabilities.astype(jnp.float32))

    # Noise and log-probabilities are worked out for many steps at once, outside their loop.
    size = _largest_divisor(length, _NOISE_AHEAD // max(1, batch_size * vocabulary_size))
    after, (ids, log_probabilities) = lax.scan(block, rows, None, length // size)
    return ids.reshape(length, batch_size), log_probabilities.reshape(length, batch_size), after


def _step(
    prepared: Prepared, filters: tuple[Filter, ...], precision: str, rows: Rows, noise: Array
) -> tuple[Rows, tuple[Array, Array, Array]]:
    """Draw one character a row with the noise `[B, V]`: the rows after, and the ids, logits and who had ended."""
    network, table = prepared
    logits, carry = network.step(table, rows.previous, rows.fresh, rows.carry, precision)
    filtered = logits
    for apply in filters:
        filtered = apply(filtered)
    # Gumbel-max: the argmax of logits plus Gumbel noise is a draw from their softmax.
    drawn = jnp.where(rows.ended, EOS, (filtered + noise).argmax(-1).astype(jnp.int32))
    after = rows._replace(
        carry=carry,
        previous=drawn,
        fresh=jnp.zeros_like(rows.fresh),
        position=rows.position + 1,
        ended=rows.ended | (drawn == EOS),
    )
    return after, (drawn, logits, rows.ended)


def _noise(rows: Rows, length: int, vocabulary_size: int) -> Array:
    """Gumbel noise for the next `length` characters, `[length, B, V]`: a key a row and position."""

    def of(key: Array, position: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, position), (vocabulary_size,))

    positions = rows.position[None, :] + jnp.arange(length, dtype=jnp.int32)[:, None]
    return jax.vmap(jax.vmap(of), (None, 0))(rows.keys, positions)


def _largest_divisor(number: int, most: int) -> int:
    return next(size for size in range(max(1, min(number, most)), 0, -1) if number % size == 0)


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
    chunk: int = 32,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids `[C, B]` and log-probabilities `[C, B]` until every row has ended or the length is reached.

    The first chunk is short, so that the first characters come at once; later ones are longer.
    """
    left = config.length if rows else 0
    if not left:
        return
    filters = filters_for(config, vocabulary_size)
    prepared = prepare(network, precision)
    state = _start(prepared, prompt_ids, row_keys(seed, first_row, rows), precision)
    size = chunk
    while left > 0:
        ids, log_probabilities, state = _draw(prepared, state, filters, size, precision)
        yield np.asarray(ids)[:left], np.asarray(log_probabilities)[:left]
        if np.asarray(state.ended).all():
            return
        left -= size
        size = chunk * _GROWTH if left > chunk * (_GROWTH - 1) else chunk
