"""What is minimised: the mean surprise of the next character, in nats."""

import jax
import jax.numpy as jnp

from charrnn.nn.arrays import Array


def negative_log_likelihood(logits: Array, targets: Array) -> Array:
    """-log p(target) in nats, `[T, B]`, of logits `[T, B, V]`; 0 where the target is negative (none)."""
    chosen = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return jnp.where(targets >= 0, jax.nn.logsumexp(logits, -1) - chosen, 0.0)
