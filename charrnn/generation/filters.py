"""Filters of the next character's distribution: from logits `[B, V]` to logits.

They apply in the order that `charrnn.sampling.filters_for` gives. An id that is ruled out has the logit
-inf; ids that are exactly as likely are kept or ruled out together. What a filter must remember of a
text is an explicit *memory*, one row a text; the filters here remember nothing, those of
`constraints.py` and `repeats.py` do.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn.arrays import Array, index_of_largest, row_sum

Memory = Any
"""What a filter keeps of each text: arrays with the batch axis first, `()` for nothing."""

_SMALL = 128
"""Up to so many ids, comparing all pairs is faster than a search."""

_ONE = 1 << 30
"""The share 1 as an integer: sums of integers depend on no order, and are made of vector instructions."""


class Filter(ABC):
    """Logits to logits, perhaps with a memory of the text so far. Frozen, and a pytree of its numbers."""

    def initial(self, prompt: np.ndarray) -> Memory:
        """The memory of a text that begins with the prompt `[P]`, leaves `[1, ...]`."""
        return ()

    @abstractmethod
    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        """Float32 logits `[..., V]` to logits of the same shape."""

    def update(self, memory: Memory, drawn: Array) -> Memory:
        """The memory after the ids `[B]` were drawn."""
        return memory

    def ends(self, memory: Memory) -> Array | None:
        """Which texts end here, `[B]` bool; None for a filter that ends none."""
        return None

    def ending(self, memory: Memory) -> Array | None:
        """With which ids texts would end, `[B, V]` bool; None for a filter that ends none."""
        return None


FilterClass = TypeVar("FilterClass", bound=type)


def numbers(*names: str) -> Any:
    """Make a dataclass a pytree whose leaves are these fields: other values need no new compilation.

    The class is part of the pytree's structure. In what `jax.tree_util.register_dataclass` makes it is not compared,
    so that now and then JAX ran the program of one filter for another with as many numbers.
    """

    def decorate(filter_class: FilterClass) -> FilterClass:
        others = [field.name for field in fields(filter_class) if field.name not in names]

        def flatten(one: Filter) -> tuple[list[Any], tuple[Any, ...]]:
            leaves, rest = ([getattr(one, name) for name in some] for some in (names, others))
            return leaves, (filter_class, *rest)

        def unflatten(structure: tuple[Any, ...], leaves: Iterable[Any]) -> Filter:
            values = zip((*names, *others), (*leaves, *structure[1:]), strict=True)
            return filter_class(**dict(values))

        jax.tree_util.register_pytree_node(filter_class, flatten, unflatten)
        return filter_class

    return decorate


@numbers()
@dataclass(frozen=True)
class Forbid(Filter):
    """Rule out some ids."""

    ids: tuple[int, ...]

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        return jnp.where(np.isin(np.arange(logits.shape[-1]), self.ids), -jnp.inf, logits)


@numbers()
@dataclass(frozen=True)
class Greedy(Filter):
    """Keep the likeliest id alone, the first of equals: what a temperature of 0 means."""

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        best = jax.nn.one_hot(index_of_largest(logits), logits.shape[-1], dtype=bool)
        return jnp.where(best, logits, -jnp.inf)


@numbers("temperature")
@dataclass(frozen=True)
class Temperature(Filter):
    """Divide by the temperature, which is above 0."""

    temperature: float

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        # Relative to the best, so that a tiny temperature gives 0 and -inf, never inf or inf - inf.
        best = jnp.maximum(logits.max(-1, keepdims=True), jnp.finfo(logits.dtype).min)
        return (logits - best) / jnp.maximum(self.temperature, 1e-30)


@numbers("k")
@dataclass(frozen=True)
class TopK(Filter):
    """Keep the `k` likeliest ids (Fan et al. 2018)."""

    k: int

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        return _kept(logits, jnp.ones(logits.shape, jnp.int32), self.k)


@numbers("p")
@dataclass(frozen=True)
class TopP(Filter):
    """Keep the likeliest ids that together hold at least the share `p`, the nucleus (Holtzman et al. 2020)."""

    p: float

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        shares, p = (jnp.asarray(_ONE * part, jnp.int32) for part in (_softmax(logits), self.p))
        return _kept(logits, shares, jnp.maximum(p, 1))  # the likeliest, 0 above it, always stays


@numbers("p")
@dataclass(frozen=True)
class MinP(Filter):
    """Keep the ids at least `p` times as likely as the likeliest (Nguyen et al. 2024)."""

    p: float

    def __call__(self, logits: Array, memory: Memory = ()) -> Array:
        least = logits.max(-1, keepdims=True) + jnp.log(jnp.asarray(self.p, logits.dtype))
        return jnp.where(logits >= least, logits, -jnp.inf)


def _kept(logits: Array, weights: Array, limit: Array | int) -> Array:
    """The float32 logits `[..., V]` of ids so that those likelier than each weigh (int32) less than the limit."""
    if logits.shape[-1] > _SMALL:
        return jnp.where(logits >= _least(logits, weights, limit), logits, -jnp.inf)
    above = jnp.zeros_like(weights)
    for id in range(logits.shape[-1]):
        one = (..., slice(id, id + 1))
        above += jnp.where(logits[one] > logits, weights[one], 0)
    return jnp.where(above < limit, logits, -jnp.inf)


def _least(logits: Array, weights: Array, limit: Array | int) -> Array:
    """The least number `[..., 1]` above which logits weigh less than the limit: a search by halves among all floats."""

    def halved(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, which never overflows
        enough = jnp.where(logits > _float(middle), weights, 0).sum(-1, jnp.int32, keepdims=True) < limit
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    infinity = jnp.full((*logits.shape[:-1], 1), jnp.inf, jnp.float32)
    ends = _ordered(-infinity), _ordered(infinity)
    return _float(lax.fori_loop(0, 32, halved, ends)[1])


def _ordered(values: Array) -> Array:
    """Float32 numbers as int32 ones in the same order."""
    bits = lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _float(ordered: Array) -> Array:
    """The float32 numbers that `_ordered` made these of."""
    return lax.bitcast_convert_type(jnp.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered), jnp.float32)


def _softmax(logits: Array) -> Array:
    """The shares, summed so that a row's do not depend on the other rows."""
    best = jnp.maximum(logits.max(-1, keepdims=True), jnp.finfo(logits.dtype).min)
    weights = jnp.exp(logits - best)
    return weights / row_sum(weights)[..., None]
