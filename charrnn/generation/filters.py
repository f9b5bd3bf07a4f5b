"""Filters of the next character's distribution: pure functions from logits `[..., V]` to logits.

They apply in this order: Forbid, Temperature, TopK, TopP, MinP. An id that is ruled out has the
logit -inf; ids that are exactly as likely are kept or ruled out together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.config import SampleConfig
from charrnn.nn.arrays import Array
from charrnn.text.vocabulary import EOS, UNK

Filter = Callable[[Array], Array]
"""Float32 logits `[..., V]` to logits of the same shape; hashable, so that it may be static in a jit."""

_SMALL = 256
"""Up to so many ids, comparing all pairs is faster than sorting."""


@dataclass(frozen=True)
class Forbid:
    """Rule out some ids."""

    ids: tuple[int, ...]

    def __call__(self, logits: Array) -> Array:
        return jnp.where(np.isin(np.arange(logits.shape[-1]), self.ids), -jnp.inf, logits)


@dataclass(frozen=True)
class Temperature:
    """Divide by the temperature; 0 keeps the likeliest id alone, the first of equals (greedy)."""

    temperature: float

    def __call__(self, logits: Array) -> Array:
        if self.temperature == 0:
            greedy = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
            return jnp.where(greedy, logits, -jnp.inf)
        # Relative to the best, so that a tiny temperature gives 0 and -inf, never inf or inf - inf.
        best = jnp.maximum(logits.max(-1, keepdims=True), jnp.finfo(logits.dtype).min)
        return (logits - best) / max(self.temperature, 1e-30)


@dataclass(frozen=True)
class TopK:
    """Keep the `k` likeliest ids (Fan et al. 2018)."""

    k: int

    def __call__(self, logits: Array) -> Array:
        if logits.shape[-1] <= _SMALL:
            return jnp.where(_sum_above(logits, jnp.ones_like(logits)) < self.k, logits, -jnp.inf)
        likeliest, _ = lax.top_k(logits, min(self.k, logits.shape[-1]))
        return jnp.where(logits >= likeliest[..., -1:], logits, -jnp.inf)


@dataclass(frozen=True)
class TopP:
    """Keep the likeliest ids that together hold at least the share `p`, the nucleus (Holtzman et al. 2020)."""

    p: float

    def __call__(self, logits: Array) -> Array:
        p = max(self.p, float(jnp.finfo(logits.dtype).tiny))  # the likeliest, 0 above it, always stays
        if logits.shape[-1] <= _SMALL:
            return jnp.where(_sum_above(logits, jax.nn.softmax(logits, -1)) < p, logits, -jnp.inf)
        descending = -jnp.sort(-logits, -1)
        shares = jax.nn.softmax(descending, -1)
        kept = jnp.cumsum(shares, -1) - shares < p
        least = jnp.where(kept, descending, jnp.inf).min(-1, keepdims=True)
        return jnp.where(logits >= least, logits, -jnp.inf)


@dataclass(frozen=True)
class MinP:
    """Keep the ids at least `p` times as likely as the likeliest (Nguyen et al. 2024)."""

    p: float

    def __call__(self, logits: Array) -> Array:
        least = logits.max(-1, keepdims=True) + math.log(self.p)
        return jnp.where(logits >= least, logits, -jnp.inf)


def _sum_above(logits: Array, values: Array) -> Array:
    """For each id, the sum of the values `[..., V]` of the ids that are likelier than it."""
    likelier = logits[..., None, :] > logits[..., :, None]
    return jnp.where(likelier, values[..., None, :], 0).sum(-1)


def filters_for(config: SampleConfig, vocabulary_size: int) -> tuple[Filter, ...]:
    """The filters that a configuration asks for, in order; those that would change nothing are left out."""
    forbidden = (EOS,) * config.ignore_eos + (UNK,) * (not config.allow_unk)
    filters: list[Filter] = [Forbid(forbidden)] if forbidden else []
    if config.temperature == 0:  # one id is left: nothing more to choose from
        return (*filters, Temperature(0.0))
    if config.temperature != 1:
        filters.append(Temperature(config.temperature))
    if 0 < config.top_k < vocabulary_size:
        filters.append(TopK(config.top_k))
    if config.top_p < 1:
        filters.append(TopP(config.top_p))
    if config.min_p > 0:
        filters.append(MinP(config.min_p))
    return tuple(filters)
