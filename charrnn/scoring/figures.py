"""What a score is made of, and the figures that people compare."""

import math
from dataclasses import dataclass

from charrnn.units import in_bits


def perplexity_of(nats: float) -> float:
    """Of a mean surprise in nats; infinite where no number is as large, as for a network that came apart."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Score:
    """How surprising a text is to a model.

    nats: the sum over `characters` and over the `ends` of documents. unknown: how many characters
    were UNK. bytes: of the text in UTF-8, separators of documents included.
    """

    nats: float
    characters: int
    unknown: int
    ends: int = 0
    bytes: int = 0

    @property
    def nats_per_character(self) -> float:
        """Mean surprise of a character (an end counts as one) in nats, as validation gives it."""
        return self.nats / max(self.characters + self.ends, 1)

    @property
    def bits(self) -> float:
        """Surprise of the whole text in bits."""
        return in_bits(self.nats)

    @property
    def bits_per_character(self) -> float:
        """Mean surprise of a character in bits."""
        return in_bits(self.nats_per_character)

    @property
    def bits_per_byte(self) -> float:
        """Bits that a byte of the text's UTF-8 would be coded in."""
        return self.bits / max(self.bytes, 1)

    @property
    def perplexity(self) -> float:
        """Characters the model is as unsure between as if they were equally likely."""
        return perplexity_of(self.nats_per_character)


@dataclass(frozen=True)
class WindowsScore:
    """The mean over cold-start windows. error: its standard error. Both in nats per character."""

    nats_per_character: float
    error: float
    windows: int

    @property
    def bits_per_character(self) -> float:
        """Mean surprise of a character in bits."""
        return in_bits(self.nats_per_character)
