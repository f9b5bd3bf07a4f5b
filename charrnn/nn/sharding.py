"""A batch split over the cores of the CPU: no step of a recurrence waits for another core then."""

import jax
import numpy as np
from jax.sharding import Mesh

ROWS = "rows"
"""The mesh axis over which a batch's rows are split."""

_FEWEST_ROWS = 8
_WIDEST_SPLIT = 640


def shards_for(batch_size: int, hidden_size: int) -> int:
    """Over how many of the CPU's devices to split a batch: evenly, and not into slivers.

    An accelerator takes it whole, and so does a CPU where the matrices are so wide that each core's
    reading them anew costs more than waiting for the other.
    """
    if jax.default_backend() != "cpu" or hidden_size > _WIDEST_SPLIT:
        return 1
    most = min(jax.local_device_count(), max(1, batch_size // _FEWEST_ROWS))
    return next(shards for shards in range(most, 0, -1) if batch_size % shards == 0)


def mesh_of(shards: int) -> Mesh:
    """The first so many devices in a line."""
    return Mesh(np.array(jax.devices()[:shards]), (ROWS,))
