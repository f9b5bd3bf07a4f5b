"""Which documents are for training and which are held out, and what the training part's alphabet is.

Documents are handled in shards of consecutive ones, so that memory stays constant however many
there are; the choice within a shard is a pure function of the seed and the shard's number.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from charrnn.errors import CorpusError
from charrnn.text.corpus import Corpus
from charrnn.text.vocabulary import Vocabulary

SHARD = 1 << 16
FEW_FILES = 100
FEW_DOCUMENTS = 10
_BLOCK = 1 << 21

Part = Literal["train", "validation"]


@dataclass(frozen=True, eq=False)
class Selection:
    """One part of a corpus, as spans of its symbols.

    With few documents the tail of each is held out and nothing ends in EOS, since no document is
    whole; with many, a seeded choice of whole documents is held out and each ends in EOS.
    """

    corpus: Corpus
    part: Part
    val_fraction: float
    seed: int

    @property
    def whole_documents(self) -> bool:
        """Whether documents are held out whole (and so end in EOS)."""
        few = FEW_FILES if self.corpus.style == "file" else FEW_DOCUMENTS
        return len(self.corpus.spans) >= few

    @property
    def shard_count(self) -> int:
        """Number of shards, at least one."""
        return -(-len(self.corpus.spans) // SHARD)

    def shard(self, index: int) -> np.ndarray:
        """The `[n, 2]` spans of this part in one shard, in the order of the text."""
        first = index * SHARD
        spans = _read(self.corpus.spans, first, min(first + SHARD, len(self.corpus.spans)))
        if not self.whole_documents:
            cut = spans[:, 0] + (np.diff(spans)[:, 0] * (1 - self.val_fraction)).astype(np.int64)
            spans[:, int(self.part == "train")] = cut
            return spans[spans[:, 1] > spans[:, 0]]
        held_out = _rounded_share(first + len(spans), self.val_fraction) - _rounded_share(first, self.val_fraction)
        order = np.random.default_rng([self.seed, index]).permutation(len(spans))
        chosen = order[:held_out] if self.part == "validation" else order[held_out:]
        return spans[np.sort(chosen)]

    @cached_property
    def positions_of_shards(self) -> np.ndarray:
        """How many predictions each shard holds: its characters, and an EOS a whole document."""
        counts = []
        for index in range(self.shard_count):
            spans = self.shard(index)
            counts.append(np.diff(spans).sum() + len(spans) * self.whole_documents)
        return np.array(counts, np.int64)

    @property
    def positions(self) -> int:
        """How many predictions this part holds in all."""
        return int(self.positions_of_shards.sum())

    def symbol_counts(self) -> np.ndarray:
        """How often each symbol occurs in this part, `[len(alphabet)]` int64, in constant memory."""
        symbols, size = self.corpus.symbols, len(self.corpus.alphabet)
        counts = np.zeros(size, np.int64)
        for index in range(self.shard_count):
            spans = self.shard(index)
            if not len(spans):
                continue
            for start in range(int(spans[0, 0]), int(spans[-1, 1]), _BLOCK):
                stop = min(start + _BLOCK, int(spans[-1, 1]))
                block = _read(symbols, start, stop)
                counts += np.bincount(block[_covered(spans, start, stop)], minlength=size)
        return counts


def split(corpus: Corpus, val_fraction: float, seed: int) -> tuple[Selection, Selection]:
    """The training and the validation part. Raises CorpusError when either would be empty."""
    train = Selection(corpus, "train", val_fraction, seed)
    validation = Selection(corpus, "validation", val_fraction, seed)
    if not train.positions or not validation.positions:
        total = int(np.diff(corpus.spans).sum())
        raise CorpusError(
            f"the corpus holds {total:,} characters, too few to hold {val_fraction:.0%} out for validation; "
            "give more text or another --val-fraction"
        )
    return train, validation


def vocabulary_of(train: Selection, min_count: int = 1, max_vocab: int | None = None) -> Vocabulary:
    """The vocabulary of a training part. Raises CorpusError when no character is frequent enough."""
    vocabulary = Vocabulary.from_counts(train.corpus.alphabet, train.symbol_counts(), min_count, max_vocab)
    if not vocabulary.characters:
        raise CorpusError(f"no character occurs {min_count} times in the training part; give a lower --min-count")
    return vocabulary


def _rounded_share(documents: int, fraction: float) -> int:
    """How many of the first `documents` are held out, one at the least."""
    return max(int(documents * fraction), 1) if documents else 0


def _read(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Some rows, read rather than mapped, so that a pass over a large corpus does not fill memory."""
    if not isinstance(rows, np.memmap) or not rows.filename:
        return np.array(rows[start:stop])
    shape = (stop - start, *rows.shape[1:])
    row_bytes = rows.itemsize * math.prod(rows.shape[1:])
    return np.fromfile(rows.filename, rows.dtype, math.prod(shape), offset=start * row_bytes).reshape(shape)


def _covered(spans: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Which of the positions `start` to `stop` lie in a span, `[stop - start]` bool."""
    first = np.searchsorted(spans[:, 1], start, "right")
    last = np.searchsorted(spans[:, 0], stop, "left")
    inside = np.clip(spans[first:last] - start, 0, stop - start)
    steps = np.zeros(stop - start + 1, np.int8)
    steps[inside[:, 0]] += 1
    steps[inside[:, 1]] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
