"""Filters that remember the text: how long it is, what stood in it, where it is in an automaton.

A memory's leaves have the batch axis first; `initial` makes one row from the prompt, which every text
that goes on from it starts with.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from charrnn.generation.filters import Filter, Memory, numbers
from charrnn.nn.arrays import Array
from charrnn.text.automaton import Automaton
from charrnn.text.vocabulary import EOS

_LONG_AGO = -(1 << 30)
_NEVER = 1 << 30


@numbers("least")
@dataclass(frozen=True)
class MinLength(Filter):
    """No end of text before `least` characters are drawn. Memory: how many were, `[B]` int32."""

    least: int

    def initial(self, prompt: np.ndarray) -> Memory:
        return np.zeros(1, np.int32)

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        return jnp.where((memory < self.least)[:, None] & _is(EOS, logits), -jnp.inf, logits)

    def update(self, memory: Memory, drawn: Array) -> Memory:
        return memory + 1


@numbers("penalty", "window")
@dataclass(frozen=True)
class RepeatPenalty(Filter):
    """Make the characters among the last `window` less likely (Keskar et al. 2019).

    Their positive logits are divided by the penalty and negative ones multiplied; the prompt counts.
    Memory: where each id stood last, `[B, V]` int32, and the length of the text, `[B]` int32.
    """

    penalty: float
    window: int
    vocabulary_size: int

    def initial(self, prompt: np.ndarray) -> Memory:
        last = np.full(self.vocabulary_size, _LONG_AGO, np.int32)
        last[prompt] = np.arange(len(prompt))  # of equal ids the last one stays
        return last[None], np.full(1, len(prompt), np.int32)

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        last, length = memory
        recent = length[:, None] - last <= self.window
        return jnp.where(recent, jnp.where(logits > 0, logits / self.penalty, logits * self.penalty), logits)

    def update(self, memory: Memory, drawn: Array) -> Memory:
        last, length = memory
        here = jnp.arange(last.shape[1], dtype=jnp.int32)[None] == drawn[:, None]
        return jnp.where(here, length[:, None], last), length + 1


@numbers("following", "accepting", "needed", "start", "length")
@dataclass(frozen=True, eq=False)
class Along(Filter):
    """Draw only along the live states of an automaton, so that every text ends where it accepts.

    following: `[S, V]` int32, the state after each id. accepting: `[S]` bool, where EOS may be drawn.
    needed: `[least + 1, S]` int32, how many characters must still come after so many were drawn.
    length: how many may be drawn in all. Memory: the state, and how many were drawn, `[B]` int32 each.
    """

    following: np.ndarray
    accepting: np.ndarray
    needed: np.ndarray
    start: int
    length: int

    @classmethod
    def of(cls, automaton: Automaton, least: int, length: int) -> "Along":
        """From an automaton, for texts of `least` to `length` characters."""
        needed = [automaton.distances(_NEVER)]
        for _ in range(least):
            needed.append(automaton.one_further(needed[-1], _NEVER))
        table = np.stack(needed[::-1])
        return cls(automaton.following, automaton.accepting, table, automaton.start, length)

    @property
    def possible(self) -> bool:
        """Whether any text fits."""
        return bool(self.needed[0, self.start] <= self.length)

    def initial(self, prompt: np.ndarray) -> Memory:
        return np.full(1, self.start, np.int32), np.zeros(1, np.int32)

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        state, drawn = memory
        least = self.needed.shape[0] - 1
        after = jnp.asarray(self.following)[state]
        needed = jnp.asarray(self.needed)[jnp.minimum(drawn + 1, least)[:, None], after]
        live = needed <= self.length - (drawn + 1)[:, None]
        ended = jnp.asarray(self.accepting)[state] & (drawn >= least)
        return jnp.where(jnp.where(_is(EOS, logits), ended[:, None], live), logits, -jnp.inf)

    def update(self, memory: Memory, drawn: Array) -> Memory:
        state, count = memory
        return jnp.asarray(self.following)[state, drawn], count + 1


@numbers("following", "accepting")
@dataclass(frozen=True, eq=False)
class Stop(Filter):
    """End a text where one of some strings is complete. Memory: the state of their automaton, `[B]` int32."""

    following: np.ndarray
    accepting: np.ndarray

    def initial(self, prompt: np.ndarray) -> Memory:
        return np.zeros(1, np.int32)

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        return logits

    def update(self, memory: Memory, drawn: Array) -> Memory:
        return jnp.asarray(self.following)[memory, drawn]

    def ends(self, memory: Memory) -> Array | None:
        return jnp.asarray(self.accepting)[memory]

    def ending(self, memory: Memory) -> Array | None:
        return jnp.asarray(self.accepting)[jnp.asarray(self.following)[memory]]


def _is(id: int, logits: Array) -> Array:
    return (jnp.arange(logits.shape[-1]) == id)[None]
