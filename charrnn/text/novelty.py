"""What of a text stands in a corpus: whole texts, and runs of characters, in constant memory."""

from collections.abc import Iterator, Sequence

import numpy as np

from charrnn.text.corpus import Corpus, holds_document, read_rows
from charrnn.text.vocabulary import code_points

RUN = 20
"""Characters in a run: longer than names and common phrases, shorter than a line."""

_BLOCK = 1 << 20
_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def share_of_runs(corpus: Corpus, texts: Sequence[str], size: int = RUN) -> tuple[int, int]:
    """How many runs of `size` characters the texts have, each place counted, and how many stand in the corpus.

    The corpus is read once, block by block. Runs are compared by hashes of 64 bits.
    """
    own = [hashes(code_points(text), size) for text in texts]
    together = np.concatenate([*own, np.zeros(0, np.uint64)])
    distinct, places = np.unique(together, return_inverse=True)
    standing = np.zeros(len(distinct), bool)
    if len(distinct):
        for codes in _blocks(corpus, size):
            standing[_found(distinct, hashes(codes, size))] = True
    return int(standing[places].sum()), len(together)


def holds(corpus: Corpus, text: str) -> bool:
    """Whether a text stands in the corpus: as a document where documents are parts of files, else anywhere."""
    if corpus.style != "file":
        return holds_document(corpus, text)
    codes = code_points(text)
    if not len(codes):
        return False
    wanted = codes.astype("<u4").tobytes()
    return any(_stands_in(wanted, block.astype("<u4").tobytes()) for block in _blocks(corpus, len(codes)))


def hashes(codes: np.ndarray, size: int) -> np.ndarray:
    """A hash of each run of `size` code points, `[len - size + 1]` uint64, by doubling the runs' length."""
    if len(codes) < size:
        return np.zeros(0, np.uint64)
    total, covered = np.zeros(len(codes) - size + 1, np.uint64), 0
    power, width, factor = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(_BASE), 1, _BASE
    while True:
        if size & width:
            total = total * np.uint64(factor) + power[covered : covered + len(total)]
            covered += width
        if covered == size:
            return total ^ (total >> np.uint64(29))
        power = power[: len(power) - width] * np.uint64(factor) + power[width:]
        width, factor = 2 * width, factor * factor & _MASK


def _blocks(corpus: Corpus, size: int) -> Iterator[np.ndarray]:
    """The corpus as code points, each block with the last `size - 1` characters of the one before."""
    for begin in range(0, corpus.characters, _BLOCK):
        symbols = read_rows(corpus.symbols, max(0, begin - size + 1), min(begin + _BLOCK, corpus.characters))
        yield corpus.alphabet[symbols]


def _found(wanted: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Which of the sorted values are present, as places in `wanted`."""
    places = np.minimum(np.searchsorted(wanted, present), len(wanted) - 1)
    return np.unique(places[wanted[places] == present])


def _stands_in(wanted: bytes, block: bytes) -> bool:
    """Whether four-byte code points stand in others, at a place between two of them."""
    at = block.find(wanted)
    while at >= 0 and at % 4:
        at = block.find(wanted, at + 1)
    return at >= 0
