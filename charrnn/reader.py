"""What a model expects next after a text, kept up to date as the text grows or shrinks."""

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from charrnn.generation import next as ahead
from charrnn.generation.next import Kinds, Place
from charrnn.generation.prepared import Prepared
from charrnn.text.vocabulary import EOS, FIRST_CHARACTER, UNK, Vocabulary

_MARKS = 100
_INSIDE_WORDS = "'’_"
_SPACES = " \t\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"
_SINGLE_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA")


class Guess(NamedTuple):
    """What may come next: a text, and its probability. `ends`: the document ends after it."""

    text: str
    probability: float
    ends: bool = False


class _Mark(NamedTuple):
    """A text that was read: where the network is after it, and the surprise of each part read, in nats."""

    text: str
    place: Place
    nats: float


@dataclass(frozen=True, eq=False)
class Reader:
    """A model that has read a text from the start of a document. `follow` gives the reader of another text."""

    prepared: Prepared
    vocabulary: Vocabulary
    precision: str
    marks: tuple[_Mark, ...]

    @classmethod
    def of(cls, prepared: Prepared, vocabulary: Vocabulary, precision: str) -> "Reader":
        """The reader of the empty text."""
        start = _Mark("", ahead.beginning(prepared, precision), 0.0)
        return cls(prepared, vocabulary, precision, (start,))

    @property
    def text(self) -> str:
        """What was read."""
        return self.marks[-1].text

    @property
    def nats(self) -> float:
        """The surprise of the whole text."""
        return self.marks[-1].nats

    def follow(self, text: str, progress: Callable[[int, int], None] | None = None) -> "Reader":
        """The reader of another text. Only what lies past a beginning that was read before is read.

        `progress(done, total)` is called now and then.
        """
        kept = self.marks
        while not text.startswith(kept[-1].text):
            kept = kept[:-1]
        last = kept[-1]
        if last.text != text:
            ids = self.vocabulary.encode(text[len(last.text) :])
            place, nats = ahead.read(self.prepared, last.place, ids, self.precision, progress)
            kept = (*kept, _Mark(text, place, last.nats + float(nats.sum(dtype=np.float64))))
        if len(kept) > _MARKS:  # the empty text stays, or there would be nothing to go back to
            kept = (kept[0], *kept[-_MARKS // 2 :])
        return replace(self, marks=kept)

    def surprise(self, before: str) -> float | None:
        """Bits per character of what the text adds to `before`; None where it adds nothing."""
        added = len(self.text) - len(before)
        if added <= 0 or not self.text.startswith(before):
            return None
        return (self.nats - self.follow(before).nats) / added / math.log(2)

    def characters(self, top: int | None = None, temperature: float = 1.0) -> list[Guess]:
        """The next character's distribution, the likeliest first; all of it without `top`."""
        likelihoods = np.asarray(self.marks[-1].place.likelihoods, np.float64)
        shares = _softmax(likelihoods, temperature)
        order = np.argsort(-shares, kind="stable")[:top]
        return [Guess(self._text((int(i),)), float(shares[i]), int(i) == EOS) for i in order]

    def words(self, top: int, anew: bool = False) -> list[Guess]:
        """The likeliest next words with the spaces before them, or the rests of the word that the text ends in.

        anew: that word is whole already. It makes no difference after a text that ends in no word.
        """
        kinds, last = _kinds(self.vocabulary), self.vocabulary.encode(self.text[-1:])
        anew = anew and bool(kinds.word[last].all())
        found = ahead.words(self.prepared, self.marks[-1].place, kinds, top, self.precision, anew)
        return [Guess(self._text(one.ids), math.exp(one.likelihood), one.ids[-1] == EOS) for one in found]

    def likeliest(self, length: int) -> Guess:
        """The likeliest character, then the likeliest after it, and so on, with the probability of all together."""
        found = ahead.likeliest(self.prepared, self.marks[-1].place, length, self.precision)
        return Guess(self._text(found.ids), math.exp(found.likelihood), found.ids[-1:] == (EOS,))

    def _text(self, ids: tuple[int, ...]) -> str:
        return self.vocabulary.decode(np.array(ids))


@lru_cache(maxsize=4)
def _kinds(vocabulary: Vocabulary) -> Kinds:
    word, space = np.zeros(vocabulary.size, bool), np.zeros(vocabulary.size, bool)
    word[FIRST_CHARACTER:] = [_is_in_words(character) for character in vocabulary.characters]
    space[FIRST_CHARACTER:] = [character in _SPACES for character in vocabulary.characters]
    word[UNK] = True
    return Kinds(word, space)


def _is_in_words(character: str) -> bool:
    """Whether it is a part of words; characters of scripts without spaces are words by themselves."""
    category = unicodedata.category(character)
    if not (character in _INSIDE_WORDS or category[0] in "LM" or category == "Nd"):
        return False
    return not unicodedata.name(character, "").startswith(_SINGLE_SCRIPTS)


def _softmax(likelihoods: np.ndarray, temperature: float) -> np.ndarray:
    """The distribution at a temperature; at 0 the likeliest alone."""
    if temperature == 0:
        return np.eye(len(likelihoods))[likelihoods.argmax()]
    scaled = np.exp((likelihoods - likelihoods.max()) / max(temperature, 1e-30))
    return scaled / scaled.sum()
