"""A filter that remembers, taken along texts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from charrnn.generation.filters import Filter

V = 6
TEXTS = np.random.default_rng(0).integers(2, V, (40, 5))  # forty characters of five texts
PROMPTS = [[], [2], [3, 4, 3, 4, 3]]


def rows(memory: Any, count: int) -> Any:
    """So many texts' memories, all as at the start."""
    return jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), count, 0), memory)


def walk(one: Filter, prompt: list[int], texts: np.ndarray) -> Any:
    """What a filter makes of logits before each character of the texts `[T, B]`, and whether they end after it."""
    logits = np.random.default_rng(1).normal(size=(*texts.shape, V)).astype(np.float32)
    memory = rows(one.initial(np.array(prompt, int)), texts.shape[1])
    call, update = jax.jit(lambda logits, memory: one(logits, memory)), jax.jit(one.update)
    filtered, ends = [], []
    for here, ids in zip(logits, texts.astype(np.int32), strict=True):
        filtered.append(np.asarray(call(here, memory)))
        memory = update(memory, ids)
        ends.append(one.ends(memory))
    return logits, np.stack(filtered), ends


def histories(prompt: list[int], texts: np.ndarray) -> Any:
    for t, row in np.ndindex(texts.shape):
        yield t, row, [*prompt, *texts[:t, row].tolist()]
