"""Which documents are for training, validation and test, and what the training part's alphabet is.

Documents are handled in shards of consecutive ones, so that memory stays constant however many
there are; the choice within a shard is a pure function of the seed and the shard's number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from charrnn.errors import CorpusError
from charrnn.text.corpus import Corpus, read_rows
from charrnn.text.vocabulary import NO_CHARACTERS, Vocabulary

SHARD = 1 << 16
FEW_FILES = 100
FEW_DOCUMENTS = 10
_BLOCK = 1 << 21

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Selection:
    """One part of a corpus, as spans of its symbols.

    With few documents each is cut into a head for training, then a part for validation and one for
    test, and nothing ends in EOS, since no document is whole; with many, a seeded choice of whole
    documents is held out for each and every document ends in EOS.
    """

    corpus: Corpus
    part: Part
    val_fraction: float
    seed: int
    test_fraction: float = 0.0

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
        spans = read_rows(self.corpus.spans, first, min(first + SHARD, len(self.corpus.spans)))
        if not self.whole_documents:
            spans = self._cut(spans)
            return spans[spans[:, 1] > spans[:, 0]]
        order = np.random.default_rng([self.seed, index]).permutation(len(spans))
        (validation, test), before = self._held_out(first + len(spans)), self._held_out(first)
        bounds = [0, validation - before[0], len(spans) - (test - before[1]), len(spans)]
        place = ("validation", "train", "test").index(self.part)
        return spans[np.sort(order[bounds[place] : bounds[place + 1]])]

    def _cut(self, spans: np.ndarray) -> np.ndarray:
        """This part of each document: the head, the middle or the tail."""
        starts, lengths = spans[:, 0], np.diff(spans)[:, 0]
        shares = (1 - self.test_fraction - self.val_fraction, 1 - self.test_fraction)
        bounds = [starts, *(starts + (lengths * share).astype(np.int64) for share in shares), spans[:, 1]]
        place = ("train", "validation", "test").index(self.part)
        return np.stack(bounds[place : place + 2], -1)

    def _held_out(self, documents: int) -> tuple[int, int]:
        """Of the first so many documents, how many are for validation and how many for test.

        At least one for each that there is to be. One more document changes one of the two, by at most one.
        """
        together = self.val_fraction + self.test_fraction
        held_out = min(documents, max(int(documents * together), 2 if self.test_fraction else 1))
        test = int(held_out * self.test_fraction / together)
        if self.test_fraction and held_out > 1:
            test = max(test, 1)
        return held_out - test, test

    def documents(self) -> Iterator[str]:
        """The texts of this part, in the order of the corpus."""
        symbols, alphabet = self.corpus.symbols, self.corpus.alphabet.astype("<u4")
        for index in range(self.shard_count):
            for start, end in self.shard(index):
                yield alphabet[symbols[start:end]].tobytes().decode("utf-32-le", "surrogatepass")

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
                block = read_rows(symbols, start, stop)
                counts += np.bincount(block[_covered(spans, start, stop)], minlength=size)
        return counts


class Parts(NamedTuple):
    """A corpus as training takes it. `test` is None where no text is kept back for it."""

    train: Selection
    validation: Selection
    test: Selection | None


def split(corpus: Corpus, val_fraction: float, seed: int, test_fraction: float = 0.0) -> Parts:
    """The parts of a corpus, a pure function of it and the arguments. Raises CorpusError when one would be empty."""
    train = Selection(corpus, "train", val_fraction, seed, test_fraction)
    validation, test = replace(train, part="validation"), replace(train, part="test")
    parts = Parts(train, validation, test if test_fraction else None)
    shares = {"validation": ("--val-fraction", val_fraction), "test": ("--test-fraction", test_fraction)}
    for part in filter(None, reversed(parts)):
        if not part.positions:
            total = int(np.diff(corpus.spans).sum())
            name = "test" if part.part == "test" else "validation"
            flag, share = shares[name]
            raise CorpusError(
                f"the corpus holds {total:,} characters, too few to hold {share:.0%} out for {name}; "
                f"give more text or another {flag}"
            )
    return parts


def vocabulary_of(
    train: Selection, min_count: int = 1, max_vocab: int | None = None, known: Vocabulary = NO_CHARACTERS
) -> Vocabulary:
    """The vocabulary of a training part, after the characters that are `known` already.

    Raises CorpusError when no character is frequent enough.
    """
    vocabulary = known.with_more(train.corpus.alphabet, train.symbol_counts(), min_count, max_vocab)
    if not vocabulary.characters:
        raise CorpusError(f"no character occurs {min_count} times in the training part; give a lower --min-count")
    return vocabulary


def _covered(spans: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Which of the positions `start` to `stop` lie in a span, `[stop - start]` bool."""
    first = np.searchsorted(spans[:, 1], start, "right")
    last = np.searchsorted(spans[:, 0], stop, "left")
    inside = np.clip(spans[first:last] - start, 0, stop - start)
    steps = np.zeros(stop - start + 1, np.int8)
    steps[inside[:, 0]] += 1
    steps[inside[:, 1]] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
