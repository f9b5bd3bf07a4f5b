"""Where in a text the surprise is: by line, by character, with what the model expected instead."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from charrnn.generation.score import Scored, guesses
from charrnn.nn.network import Network
from charrnn.scoring.protocols import batches_of
from charrnn.scoring.text import ReadyText
from charrnn.text.vocabulary import Vocabulary
from charrnn.text.whole import Block


class Lines(NamedTuple):
    """The lines of a text, each array `[N]`.

    numbers: as an editor counts them. starts, stops: where each lies in the symbols. nats: its
    surprise, its end included. characters: how many it holds, its end counted as one.
    """

    numbers: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    nats: np.ndarray
    characters: np.ndarray

    def take(self, order: np.ndarray) -> "Lines":
        """Some lines, in an order."""
        return Lines(*(part[order] for part in self))


def lines_of(text: ReadyText, nats: np.ndarray) -> Lines:
    """The surprise of each line. A line break belongs to the line it ends, and so does a document's end."""
    parts: list[Lines] = []
    open_start, open_nats, open_characters = -1, 0.0, 0
    for block in text.whole.blocks():
        here = np.array(nats[block.first : block.first + len(block.characters)], np.float64)
        line = np.cumsum(block.closes) - block.closes
        count = int(line[-1]) + 1
        first_of_line = np.searchsorted(line, np.arange(count))
        starts, last = block.characters[first_of_line], np.append(first_of_line[1:], len(line)) - 1
        sums, sizes = np.bincount(line, here), np.bincount(line)
        stops = block.characters[last] + ~block.ends[last]
        if open_start >= 0:
            starts[0], sums[0], sizes[0] = open_start, sums[0] + open_nats, sizes[0] + open_characters
        if block.closes[-1]:
            open_start, open_nats, open_characters = -1, 0.0, 0
        else:
            open_start, open_nats, open_characters, count = int(starts[-1]), sums[-1], int(sizes[-1]), count - 1
        parts.append(Lines(starts, starts, stops, sums, sizes).take(np.arange(count)))
    lines = Lines(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return lines._replace(numbers=1 + np.searchsorted(text.whole.newlines(), lines.starts))


class Character(NamedTuple):
    """One position of a text: the character (empty at a document's end), its nats, and what was likelier."""

    text: str
    nats: float
    guesses: tuple[tuple[str, float], ...] = ()


def characters_of(text: ReadyText, nats: np.ndarray) -> Iterator[Character]:
    """Every character in order with its surprise. What separates documents is no part of them and left out."""
    for block in text.whole.blocks():
        for shown, cost in zip(_texts(text, block), nats[block.first : block.first + len(block.ends)], strict=True):
            yield Character(shown, float(cost))


def guesses_of(
    network: Network, vocabulary: Vocabulary, text: ReadyText, top: int, precision: str
) -> Iterator[Character]:
    """Every character in order with the `top` likeliest ones in its place, read as one stream."""
    batches = batches_of(text, 1)
    windows = guesses(network, map(batches.batch, range(len(batches))), precision, top)
    shown = chain.from_iterable(_texts(text, block) for block in text.whole.blocks())
    for character, scored in zip(shown, chain.from_iterable(map(_positions, windows)), strict=False):
        nats, ids, likelihoods = scored
        expected = [(vocabulary.decode(ids[k : k + 1]), float(np.exp(likelihoods[k]))) for k in range(len(ids))]
        yield Character(character, float(nats), tuple(expected))


def _positions(window: Scored) -> Iterator[tuple[np.ndarray, ...]]:
    """The results of a window of one stream, a position at a time."""
    return zip(*(part[:, 0] for part in window), strict=True)


def _texts(text: ReadyText, block: Block) -> list[str]:
    """The character at each position of a block, empty at a document's end."""
    shown = iter(text.whole.text_at(block.characters[~block.ends]))
    return ["" if ends else next(shown) for ends in block.ends]
