"""What the held-out text costs, and how much surer or less sure of itself a network should be.

Dropout and averaging leave a network surer than it is right: its logits, divided by a temperature a
little above 1, give the held-out text a higher probability (Guo et al. 2017). So the head is scaled by
the temperature that the validation before found.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry
from charrnn.nn.network import Network, named_arrays, with_arrays
from charrnn.nn.sharding import ROWS, mesh_of, shards_for
from charrnn.text.batches import Batch, ValidationBatches

_WINDOWS_AHEAD = 16
_LEAST, _MOST = 0.5, 2.0


class Validation(NamedTuple):
    """Means over the held-out characters: their nats, the nats expected (the entropy) and the variance of those."""

    nats: float
    expected: float
    variance: float


def surprise(logits: Array, targets: Array) -> Array:
    """Per character its nats, the nats expected of it (the entropy) and their variance, `[3, T, B]`.

    logits: `[T, B, V]`. targets: `[T, B]`; where one is negative (none) all three are 0.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    probabilities = jnp.exp(log_probabilities)
    nats = -jnp.take_along_axis(log_probabilities, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    expected = -(probabilities * log_probabilities).sum(-1)
    variance = (probabilities * (log_probabilities + expected[..., None]) ** 2).sum(-1)
    return jnp.where(targets >= 0, jnp.stack([nats, expected, variance]), 0.0)


def better_temperature(found: Validation, temperature: float) -> float:
    """The temperature at which the nats would be least, about, when they were found at this one; 0.5 to 2.

    One step of Newton's method. The nats are convex in 1 / temperature, where their slope is nats - expected
    and their curvature the variance (in units of this temperature): a network that is as surprised as it expects
    to be has the right one.
    """
    if not found.variance > 0:
        return temperature
    inverse = 1 - (found.nats - found.expected) / found.variance
    return min(max(temperature / max(inverse, _LEAST), _LEAST), _MOST)


def at_temperature(network: Network, temperature: float) -> Network:
    """The network with its logits divided by a temperature."""
    named, share = named_arrays(network), np.float32(1 / temperature)
    return with_arrays(network, named | {name: named[name] * share for name in ("head_kernel", "head_bias")})


@partial(jax.jit, static_argnames=("precision", "shards"), compiler_options=COMPILER_OPTIONS)
def validation_step(
    network: Network, batch: Batch, carry: Carry, sums: Array, precision: str, shards: int
) -> tuple[Carry, Array]:
    """Add the `surprise` of one window to running sums, `[shards, 3]`.

    The shards never meet: with many windows under way at once, XLA's meeting of CPU devices waits forever.
    """

    def here(network: Network, batch: Batch, carry: Carry, sums: Array) -> tuple[Carry, Array]:
        logits, carry = network(batch.inputs, batch.resets, carry, precision=precision)
        return carry, sums + surprise(logits, batch.targets).sum((1, 2))[None]

    split = jax.shard_map(
        here, mesh=mesh_of(shards), check_vma=False,
        in_specs=(P(), P(None, ROWS), P(ROWS), P(ROWS)), out_specs=(P(ROWS), P(ROWS)),
    )  # fmt: skip
    return split(network, batch, carry, sums)


def validate(
    network: Network, batches: ValidationBatches, precision: str, should_stop: Callable[[], bool] = lambda: False
) -> Validation | None:
    """Read the whole held-out text, the state carried through it; None if `should_stop()`."""
    shards = shards_for(batches.batch_size, network.layers[0].hidden_size)
    network = jax.device_put(network, NamedSharding(mesh_of(shards), P()))
    carry, sums = network.initial_carry(batches.batch_size), jnp.zeros((shards, 3))
    for window in range(len(batches)):
        if window % _WINDOWS_AHEAD == 0:
            sums.block_until_ready()  # else all would be queued at once, and a stop wait for them
            if should_stop():
                return None
        carry, sums = validation_step(network, batches.batch(window), carry, sums, precision, shards)
    nats, expected, variance = (np.asarray(sums, np.float64).sum(0) / len(batches.positions)).tolist()
    return Validation(nats, expected, variance)
