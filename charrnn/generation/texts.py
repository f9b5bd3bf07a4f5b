"""Texts as they come: the host's side of drawing, which follows each text through the rows and chunks."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from charrnn.generation.decode import (
    AT_EOS, AT_LENGTH, AT_STOP, GOING, MOST_BLOCKS, Prepared, block_for, draw, free_rows, queue_of, slots_for, start,
)  # fmt: skip
from charrnn.generation.filters import Filter

ENDINGS = {GOING: "", AT_EOS: "eos", AT_STOP: "stop", AT_LENGTH: "length"}

_CHUNK_SECONDS = 0.05
"""Chunks grow while they take less than this, so that text flows and an interrupt is heard."""

_AHEAD = 1024
"""So many texts may be finished while an earlier one is not; memory is bounded by that."""


class Piece(NamedTuple):
    """Some characters of a text: ids `[C]`, log-probabilities `[C]` in nats, and why it ended ("": it goes on)."""

    number: int
    ids: np.ndarray
    log_probabilities: np.ndarray
    ended: str


def pieces(
    prepared: Prepared,
    prompt_ids: np.ndarray,
    filters: Sequence[Filter],
    *,
    seed: int,
    texts: int,
    length: int,
    first: int = 0,
    precision: str = "float32",
) -> Iterator[Piece]:
    """Draw texts number `first` to before `first + texts`, in pieces as they come, those of one text in order."""
    if not texts or not length:
        yield from (Piece(first + k, np.zeros(0, np.int32), np.zeros(0, np.float32), "length") for k in range(texts))
        return
    chosen, slots = tuple(filters), slots_for(texts, precision)
    beginning = start(prepared, prompt_ids, chosen, precision)
    rows, block = free_rows(beginning, slots), block_for(slots, prepared.table.shape[0])
    queue, last = queue_of(seed, first, first, length), first + texts
    unfinished, blocks = set(range(first, min(last, first + _AHEAD))), 1
    begun = first + len(unfinished)
    while unfinished:
        queue = queue._replace(limit=np.int32(begun))
        began = time.perf_counter()
        drawn, done, rows, queue = draw(
            prepared, chosen, beginning, rows, queue, np.int32(blocks), precision=precision, block=block
        )
        drawn, done = jax.device_get((drawn, done))
        if time.perf_counter() - began < _CHUNK_SECONDS:
            blocks = min(2 * blocks, MOST_BLOCKS)
        for piece in _split(drawn, int(done)):
            if piece.ended:
                unfinished.remove(piece.number)
            yield piece
        oldest = min(unfinished, default=begun)
        more = range(begun, min(last, oldest + _AHEAD))
        unfinished.update(more)
        begun += len(more)


def _split(drawn: object, done: int) -> Iterator[Piece]:
    """What one call drew as pieces; blocks of one text that follow each other in a row are one piece."""
    ids, log_probabilities, number, count, ended = (np.asarray(part)[:done] for part in drawn)  # type: ignore[attr-defined]
    for row in range(number.shape[1]):
        begin = 0
        for here in range(done):
            following = here + 1 < done and not ended[here, row]
            if following or not count[begin, row]:
                begin = begin if following else here + 1
                continue
            # Only the last block of a text is not full.
            size = (here - begin) * ids.shape[1] + count[here, row]
            flat = (part[begin : here + 1, :, row].reshape(-1)[:size] for part in (ids, log_probabilities))
            yield Piece(int(number[begin, row]), *flat, ENDINGS[int(ended[here, row])])
            begin = here + 1


def whole(pieces: Iterator[Piece], first: int) -> Iterator[Piece]:
    """The same texts, each in one piece and in the order of their numbers."""
    parts: dict[int, list[Piece]] = {}
    finished: dict[int, Piece] = {}
    for piece in pieces:
        parts.setdefault(piece.number, []).append(piece)
        if not piece.ended:
            continue
        own = parts.pop(piece.number)
        joined = (np.concatenate([getattr(part, name) for part in own]) for name in ("ids", "log_probabilities"))
        finished[piece.number] = Piece(piece.number, *joined, piece.ended)
        while first in finished:
            yield finished.pop(first)
            first += 1
