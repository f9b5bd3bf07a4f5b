"""Filters of the next character's distribution: pure functions from logits to logits, `[..., V]`.

They apply in this order: Forbid, Temperature, TopK, TopP, MinP. A ruled-out id has the logit -inf.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from charrnn.config import SampleConfig
from charrnn.nn.arrays import Array
from charrnn.text.vocabulary import EOS, UNK

Filter = Callable[[Array], Array]


@dataclass(frozen=True)
class Forbid:
    """Rule out some ids."""

    ids: tuple[int, ...]

    def __call__(self, logits: Array) -> Array:
        return logits.at[..., jnp.array(self.ids)].set(-jnp.inf)


@dataclass(frozen=True)
class Temperature:
    """Divide by the temperature; 0 keeps the likeliest id alone."""

    temperature: float

    def __call__(self, logits: Array) -> Array:
        best = logits.max(-1, keepdims=True)
        if self.temperature == 0:
            first = jnp.arange(logits.shape[-1]) == logits.argmax(-1)[..., None]
            return jnp.where(first, 0.0, -jnp.inf)
        # Relative to the best, so that a tiny temperature gives 0 and -inf, never inf - inf.
        return (logits - best) / jnp.float32(max(self.temperature, 1e-30))


@dataclass(frozen=True)
class TopK:
    """Keep the `k` likeliest ids (Fan et al. 2018), and those as likely as the last of them."""

    k: int

    def __call__(self, logits: Array) -> Array:
        smallest = jax.lax.top_k(logits, min(self.k, logits.shape[-1]))[0][..., -1:]
        return jnp.where(logits >= smallest, logits, -jnp.inf)


@dataclass(frozen=True)
class TopP:
    """Keep the likeliest ids that together hold the share `p` (Holtzman et al. 2020), one at least."""

    p: float

    def __call__(self, logits: Array) -> Array:
        descending = -jnp.sort(-logits, -1)
        probabilities = jax.nn.softmax(descending, -1)
        before = jnp.cumsum(probabilities, -1) - probabilities
        smallest = jnp.where(before < self.p, descending, jnp.inf).min(-1, keepdims=True)
        return jnp.where(logits >= smallest, logits, -jnp.inf)


@dataclass(frozen=True)
class MinP:
    """Keep the ids at least `p` times as likely as the likeliest (Nguyen et al. 2024)."""

    p: float

    def __call__(self, logits: Array) -> Array:
        return jnp.where(logits >= logits.max(-1, keepdims=True) + jnp.log(self.p), logits, -jnp.inf)


def filters_for(config: SampleConfig, vocabulary_size: int) -> tuple[Filter, ...]:
    """The filters that a configuration asks for, in order, those that would do nothing left out."""
    forbidden = (EOS,) * config.ignore_eos + (UNK,) * (not config.allow_unk)
    filters: list[Filter] = [Forbid(forbidden)] if forbidden else []
    if config.temperature != 1:
        filters.append(Temperature(config.temperature))
    if 0 < config.top_k < vocabulary_size:
        filters.append(TopK(config.top_k))
    if config.top_p < 1:
        filters.append(TopP(config.top_p))
    if config.min_p > 0:
        filters.append(MinP(config.min_p))
    return tuple(filters)
