"""Ids become batches: pure functions of the seed and the step, so exact resume needs one integer.

The documents of a part, in an epoch's order, form one long row of *positions*: each document is
its characters and, where documents are whole, an EOS. The row is cut into `B` contiguous streams,
each read window after window; every position is a target exactly once an epoch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from charrnn.text.selection import Selection
from charrnn.text.vocabulary import EOS, Vocabulary

NO_TARGET = -1


class Batch(NamedTuple):
    """One window of every stream, time-major.

    inputs: `[T, B]` int32, the previous character; meaningless where `resets` is set.
    targets: `[T, B]` int32, the character to predict, or NO_TARGET past a stream's end.
    resets: `[T, B]` bool, where the state and the input are zero: a document starts.
    NumPy arrays here; traced ones inside a jitted step.
    """

    inputs: Any
    targets: Any
    resets: Any


@dataclass(frozen=True, eq=False)
class Positions:
    """The row of positions of a part, in the order of one epoch or of the text."""

    selection: Selection
    ids_of_symbols: np.ndarray

    @classmethod
    def of(cls, selection: Selection, vocabulary: Vocabulary) -> "Positions":
        """The positions of `selection`, its symbols read as ids of `vocabulary`."""
        return cls(selection, vocabulary.ids_of_code_points(selection.corpus.alphabet).astype(np.int32))

    def __len__(self) -> int:
        return self.selection.positions

    def look_up(self, positions: np.ndarray, epoch: int | None = None) -> Batch:
        """The input, target and reset at each position, in arrays of its shape.

        `epoch` numbers the shuffle of whole documents; None keeps the order of the text.
        """
        flat = np.minimum(positions.ravel(), len(self) - 1)
        batch = Batch(*(np.empty(len(flat), dtype) for dtype in (np.int32, np.int32, bool)))
        order, first_positions = self._shards(epoch)
        rank = np.searchsorted(first_positions, flat, "right") - 1
        for used in np.unique(rank):
            here = rank == used
            spans, starts = self._documents(int(order[used]), epoch)
            self._fill(batch, here, flat[here] - first_positions[used], spans, starts)
        past_the_end = positions.ravel() >= len(self)
        batch.targets[past_the_end] = NO_TARGET
        return Batch(*(part.reshape(positions.shape) for part in batch))

    def _fill(
        self, batch: Batch, here: np.ndarray, positions: np.ndarray, spans: np.ndarray, starts: np.ndarray
    ) -> None:
        """Look up positions of one shard, whose documents start at the positions `starts`."""
        document = np.searchsorted(starts, positions, "right") - 1
        offset = positions - starts[document]
        first, end = spans[document, 0], spans[document, 1]
        symbols = self.selection.corpus.symbols
        at_end = first + offset == end
        target = self.ids_of_symbols[symbols[np.minimum(first + offset, end - 1)]]
        batch.inputs[here] = self.ids_of_symbols[symbols[np.maximum(first + offset - 1, first)]]
        batch.targets[here] = np.where(at_end, EOS, target)
        batch.resets[here] = offset == 0

    @lru_cache(maxsize=4)  # noqa: B019 - lives as long as the run
    def _shards(self, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The order of the shards in an epoch and each one's first position."""
        counts = self.selection.positions_of_shards
        order = np.arange(len(counts))
        if epoch is not None and self.selection.whole_documents:
            order = self._random(epoch).permutation(order)
        return order, np.concatenate([[0], np.cumsum(counts[order])[:-1]])

    @lru_cache(maxsize=96)  # noqa: B019 - lives as long as the run
    def _documents(self, shard: int, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The spans of a shard in an epoch's order and the position in the shard where each starts."""
        spans = self.selection.shard(shard)
        if epoch is not None and self.selection.whole_documents:
            spans = self._random(epoch, shard).permutation(spans)
        lengths = np.diff(spans)[:, 0] + self.selection.whole_documents
        return spans, np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.selection.seed, 1, *numbers])


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """The training batches: `batch(step)` for any step, in any order.

    In one long document each character is, with chance `reset_rate`, treated as a document's
    first, so that the start of text is learnt there too.
    """

    positions: Positions
    seq_length: int
    batch_size: int
    reset_rate: float = 0.0

    @property
    def stream_length(self) -> int:
        """Positions a stream holds an epoch."""
        return -(-len(self.positions) // self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Windows a stream holds; the last may be partly past the stream's end."""
        return -(-self.stream_length // self.seq_length)

    def batch(self, step: int) -> Batch:
        """The `[T, B]` batch of a step, counted from 0 over all epochs."""
        epoch, window = divmod(step, self.steps_per_epoch)
        time = window * self.seq_length + np.arange(self.seq_length)[:, None]
        streams = np.arange(self.batch_size) * self.stream_length
        batch = self.positions.look_up(time + streams, epoch)
        batch.targets[np.broadcast_to(time >= self.stream_length, batch.targets.shape)] = NO_TARGET
        if self.positions.selection.whole_documents:
            return batch  # a stream that begins inside a document must not look like a document's start
        if window == 0:
            batch.resets[0] = True
        if self.reset_rate:
            random = np.random.default_rng([self.positions.selection.seed, 2, step])
            batch.resets[:] |= random.random(batch.resets.shape) < self.reset_rate
        return batch


@dataclass(frozen=True, eq=False)
class ValidationBatches:
    """One pass over the held-out text in its own order.

    The text is read as `B` streams for speed. Each but the first begins `overlap` positions early,
    and those carry the state in without being scored, so that the figure is that of one stream.
    """

    positions: Positions
    seq_length: int
    batch_size: int
    overlap: int = 512

    @property
    def stream_length(self) -> int:
        """Positions a stream scores."""
        return -(-len(self.positions) // self.batch_size)

    def __len__(self) -> int:
        return -(-(self.stream_length + self.overlap) // self.seq_length)

    def batch(self, window: int) -> Batch:
        """The `[T, B]` batch of a window; every position is a target in exactly one of them."""
        time = window * self.seq_length + np.arange(self.seq_length)[:, None] - self.overlap
        streams = np.arange(self.batch_size) * self.stream_length
        wanted = time + streams
        batch = self.positions.look_up(np.maximum(wanted, 0))
        scored = (time >= 0) & (time < self.stream_length)
        batch.targets[np.broadcast_to(~scored, batch.targets.shape)] = NO_TARGET
        batch.resets[wanted < 0] = True
        if window == 0:
            batch.resets[0] = True
        return batch
