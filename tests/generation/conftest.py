"""A network whose logits are known: the next character depends on the one before it alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.generation.prepared import Prepared


@partial(jax.tree_util.register_dataclass, data_fields=["logits"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Chain:
    """Logits `[V + 1, V]` by the character before, the last row where there is none; the state counts steps."""

    logits: Any
    layers: ClassVar[tuple[None, ...]] = (None,)

    def initial_carry(self, batch_size: int) -> Any:
        return ((jnp.zeros((batch_size, 1)),),)

    def step(self, table: Any, ids: Any, carry: Any, precision: str) -> Any:
        ((count,),) = carry
        return jnp.asarray(self.logits)[ids], ((count + 1,),)


@pytest.fixture
def chain() -> Callable[[np.ndarray], Prepared]:
    """Makes the chain of some logits `[V + 1, V]`, as the decoder takes it."""
    return lambda logits: Prepared(Chain(logits.astype(np.float32)), jnp.zeros((logits.shape[0], 1)))
