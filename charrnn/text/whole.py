"""A text that is read from its first character to its last: to be scored, not learnt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charrnn.text.corpus import Corpus, read_rows
from charrnn.text.selection import SHARD, Selection

_BLOCK = 1 << 18


class Block(NamedTuple):
    """Consecutive positions of a text.

    first: the number of the first. characters: `[n]` int64, where in the corpus's symbols each stands.
    closes: `[n]` bool, the line that the position belongs to ends with it. ends: `[n]` bool, it is an
    EOS, which stands where the document's next character would.
    """

    first: int
    characters: np.ndarray
    closes: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True, eq=False)
class WholeText(Selection):
    """All documents of a corpus, or of one part of it, in their own order; each ends in EOS if `ended`."""

    ended: bool = True
    of_part: Selection | None = None

    @classmethod
    def of(cls, corpus: Corpus, ended: bool) -> "WholeText":
        """All of a prepared corpus."""
        return cls(corpus, "validation", 1.0, 0, ended=ended)

    @classmethod
    def of_selection(cls, part: Selection) -> "WholeText":
        """One part of a corpus."""
        return cls(part.corpus, part.part, 1.0, 0, ended=part.whole_documents, of_part=part)

    @property
    def whole_documents(self) -> bool:
        """Whether each document ends in EOS."""
        return self.ended

    def shard(self, index: int) -> np.ndarray:
        """The `[n, 2]` spans of one shard."""
        if self.of_part is not None:
            return self.of_part.shard(index)
        first = index * SHARD
        return read_rows(self.corpus.spans, first, min(first + SHARD, len(self.corpus.spans)))

    @property
    def document_count(self) -> int:
        """How many documents there are."""
        return sum(len(self.shard(index)) for index in range(self.shard_count))

    def blocks(self) -> Iterator[Block]:
        """All positions in order, in blocks that fit in memory."""
        first = 0
        for index in range(self.shard_count):
            spans = self.shard(index)
            lengths = np.diff(spans)[:, 0] + self.ended
            starts = np.concatenate([[0], np.cumsum(lengths)])
            for begin in range(0, int(starts[-1]), _BLOCK):
                positions = np.arange(begin, min(begin + _BLOCK, int(starts[-1])))
                document = np.searchsorted(starts, positions, "right") - 1
                characters = spans[document, 0] + positions - starts[document]
                yield self._block(first + begin, characters, spans[document, 1])
            first += int(starts[-1])

    def _block(self, first: int, characters: np.ndarray, document_ends: np.ndarray) -> Block:
        ends = characters == document_ends
        last = ends if self.ended else characters + 1 == document_ends
        here = np.minimum(characters, document_ends - 1)
        symbols = read_rows(self.corpus.symbols, int(here[0]), int(here[-1]) + 1)[here - here[0]]
        newline = (self.corpus.alphabet[symbols] == ord("\n")) & ~ends
        # A newline that a document ends in closes its line together with the EOS after it.
        before_end = (characters + 1 == document_ends) & self.ended
        return Block(first, characters, last | (newline & ~before_end), ends)

    def newlines(self) -> np.ndarray:
        """Where in the symbols each newline stands, ascending int64."""
        symbol = np.flatnonzero(self.corpus.alphabet == ord("\n"))
        if not len(symbol):
            return np.zeros(0, np.int64)
        found = [
            begin
            + np.flatnonzero(
                read_rows(self.corpus.symbols, begin, min(begin + _BLOCK, self.corpus.characters)) == symbol[0]
            )
            for begin in range(0, self.corpus.characters, _BLOCK)
        ]
        return np.concatenate(found)

    def utf8_bytes(self) -> int:
        """Bytes of the text in UTF-8, with what separates its documents; in a part of a corpus, a byte for each end."""
        widths = 1 + np.searchsorted([0x80, 0x800, 0x10000], self.corpus.alphabet, "right")
        if self.of_part is not None:
            return int(self.symbol_counts() @ widths) + self.document_count * self.ended
        counts = np.zeros(len(widths), np.int64)
        for begin in range(0, self.corpus.characters, _BLOCK):
            block = read_rows(self.corpus.symbols, begin, min(begin + _BLOCK, self.corpus.characters))
            counts += np.bincount(block, minlength=len(widths))
        return int(counts @ widths)

    def text_at(self, characters: np.ndarray) -> str:
        """The characters that stand at ascending places of the symbols."""
        if not len(characters):
            return ""
        first = int(characters[0])
        symbols = read_rows(self.corpus.symbols, first, int(characters[-1]) + 1)[characters - first]
        codes = self.corpus.alphabet[symbols]
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
