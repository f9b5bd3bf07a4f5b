"""Texts as they come: the host's side of drawing, which follows each text through the rows and chunks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from charrnn.generation import decode
from charrnn.generation.decode import Beginning, Drawn, Queue, Rows, block_for
from charrnn.generation.filters import Filter
from charrnn.generation.prepared import Arranged, Plan, Prepared, plan_for, shape_for
from charrnn.nn.arrays import Array

ENDINGS = {decode.GOING: "", decode.AT_EOS: "eos", decode.AT_STOP: "stop", decode.AT_LENGTH: "length"}

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
    after: Beginning | None = None,
    plan: Plan | None = None,
) -> Iterator[Piece]:
    """Draw texts number `first` to before `first + texts`, in pieces as they come, those of one text in order.

    after: what was read before of what the prompt begins with. plan: that for so many texts, where it was made before.
    """
    if not texts or not length:
        yield from (Piece(first + k, np.zeros(0, np.int32), np.zeros(0, np.float32), "length") for k in range(texts))
        return
    ready, rows, lanes = plan or plan_for(shape_for(texts, prepared, precision), prepared, precision)
    last, block = first + texts, block_for(rows, prepared)
    beginning = decode.start(prepared, decode.read(prepared, prompt_ids, precision, after), filters)
    drawing = [
        _Lane.on(device, ready, tuple(filters), beginning, rows, queue, precision, block)
        for device, queue in (
            (device, decode.queue_of(seed, first + lane, first, length, lanes))
            for lane, device in enumerate(jax.local_devices()[:lanes])
        )
    ]
    begun, blocks = min(last, first + _AHEAD), 1
    unfinished = set(range(first, begun))
    while unfinished:
        began = time.perf_counter()
        calls = [lane.draw(begun, blocks) for lane in drawing]  # they run side by side
        results = jax.device_get(calls)
        if time.perf_counter() - began < _CHUNK_SECONDS:
            blocks = min(2 * blocks, decode.MOST_BLOCKS)
        for drawn, done in results:
            for piece in _split(drawn, int(done)):
                if piece.ended:
                    unfinished.remove(piece.number)
                yield piece
        more = range(begun, min(last, min(unfinished, default=begun) + _AHEAD))
        unfinished.update(more)
        begun += len(more)


@dataclass
class _Lane:
    """One device's share of the drawing: all that `decode.draw` takes, and what it gives back."""

    ready: Arranged
    filters: tuple[Filter, ...]
    beginning: Rows
    rows: Rows
    queue: Queue
    precision: str
    block: int

    @classmethod
    def on(
        cls,
        device: jax.Device,
        ready: Arranged,
        filters: tuple[Filter, ...],
        beginning: Rows,
        count: int,
        queue: Queue,
        precision: str,
        block: int,
    ) -> "_Lane":
        """A lane with all its `count` rows free."""
        rows = decode.free_rows(ready, beginning, count)
        here = jax.device_put((ready, filters, beginning, rows, queue), device)
        ready, filters, beginning, rows, queue = here
        return cls(ready, filters, beginning, rows, queue, precision, block)

    def draw(self, limit: int, blocks: int) -> tuple[Drawn, Array]:
        """Draw some blocks of texts numbered below `limit`: what was drawn, and how many blocks of it."""
        queue = self.queue._replace(limit=np.int32(limit))  # type: ignore[arg-type] # goes where the others are
        drawn, done, self.rows, self.queue = decode.draw(
            self.ready, self.filters, self.beginning, self.rows, queue, np.int32(blocks),
            precision=self.precision, block=self.block,
        )  # fmt: skip
        return drawn, done


def _split(drawn: Drawn, done: int) -> Iterator[Piece]:
    """What one call drew as pieces; blocks of one text that follow each other in a row are one piece."""
    ids, log_probabilities, number, own, ended = (np.asarray(part)[:done] for part in drawn)
    for row in range(number.shape[1]):
        begin = 0
        for here in range(done):
            following = here + 1 < done and not ended[here, row]
            if following or not own[begin, row]:
                begin = begin if following else here + 1
                continue
            # Only the last block of a text is not full.
            size = (here - begin) * ids.shape[1] + own[here, row]
            text, logs = (part[begin : here + 1, :, row].reshape(-1)[:size] for part in (ids, log_probabilities))
            yield Piece(int(number[begin, row]), text, logs, ENDINGS[int(ended[here, row])])
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
        ids = np.concatenate([part.ids for part in own])
        log_probabilities = np.concatenate([part.log_probabilities for part in own])
        finished[piece.number] = Piece(piece.number, ids, log_probabilities, piece.ended)
        while first in finished:
            yield finished.pop(first)
            first += 1
