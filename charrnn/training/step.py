"""The jitted work: several training steps a call."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from charrnn.config import RunConfig
from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry
from charrnn.nn.network import Dropout, Network, create
from charrnn.nn.random import GENERATOR
from charrnn.nn.sharding import ROWS, mesh_of, shards_for
from charrnn.text.batches import Batch
from charrnn.training.objective import negative_log_likelihood
from charrnn.training.optimizer import make_optimizer


class TrainState(NamedTuple):
    """All that a step depends on besides its batch and its learning rate.

    seed: of everything random, a uint32; not a constant of the program, or each seed would be compiled
    anew. average: the moving average of the weights, where one is kept.
    """

    network: Network
    optimizer: Any
    carry: Carry
    step: Array
    seed: Array
    average: Network | None

    @property
    def learnt(self) -> Network:
        """The network to validate and to keep."""
        return self.network if self.average is None else self.average


@dataclass(frozen=True)
class StepSettings:
    """What a step is compiled for."""

    optimizer: str
    weight_decay: float
    clip_norm: float
    ema: float
    precision: str
    dropout: Dropout
    shards: int

    @classmethod
    def of(cls, config: RunConfig) -> "StepSettings":
        """The settings of a run."""
        training, model = config.training, config.model
        dropout = Dropout(model.dropout or 0.0, model.variational, model.weight_drop or 0.0)
        assert training.batch_size is not None and model.hidden_size is not None
        return cls(
            training.optimizer, training.weight_decay, training.clip_norm, training.ema, training.precision, dropout,
            shards_for(training.batch_size, model.hidden_size),
        )  # fmt: skip

    def transformation(self) -> optax.GradientTransformation:
        """The optimizer these settings name."""
        return make_optimizer(self.optimizer, self.weight_decay, self.clip_norm, self.precision, self.shards)


def initial_state(config: RunConfig, vocabulary_size: int, network: Network | None = None) -> TrainState:
    """The state before the first step, of a fresh network when none is given."""
    if network is None:
        network = create(config.model, vocabulary_size, config.training.seed)
    else:
        network = jax.tree.map(jnp.copy, network)  # the steps take the state's arrays for themselves
    optimizer = StepSettings.of(config).transformation().init(network)
    assert config.training.batch_size is not None
    average = jax.tree.map(jnp.copy, network) if config.training.ema else None
    carry = network.initial_carry(config.training.batch_size)
    seed = jnp.asarray(config.training.seed, jnp.uint32)
    return TrainState(network, optimizer, carry, jnp.zeros((), jnp.int32), seed, average)


_STATE_SPLIT = TrainState(P(), P(), P(ROWS), P(), P(), P())  # type: ignore[arg-type] # a tree of which row goes where
_BATCHES_SPLIT = P(None, None, ROWS)


def place(state: TrainState, settings: StepSettings) -> TrainState:
    """The state on the devices that `settings` splits a batch over: the carry by rows, the rest on each."""
    shardings = jax.tree.map(partial(NamedSharding, mesh_of(settings.shards)), _STATE_SPLIT)
    return TrainState(*(jax.device_put(part, where) for part, where in zip(state, shardings, strict=True)))


def train_step(state: TrainState, batch: Batch, rate: Array, settings: StepSettings) -> tuple[TrainState, Array, Array]:
    """One optimizer step on this device's rows `[T, B / shards]` of a batch, the gradients summed over all devices.

    Returns the state, the loss in nats and the gradient norm. Where either is not finite the state
    stays as it was, but for its step number.
    """
    key = jax.random.fold_in(jax.random.key(state.seed, impl=GENERATOR), state.step)
    key = jax.random.fold_in(key, lax.axis_index(ROWS))

    def nats_of(network: Network) -> tuple[Array, Carry]:
        logits, carry = network(
            batch.inputs, batch.resets, state.carry, precision=settings.precision, dropout=settings.dropout, key=key
        )
        return negative_log_likelihood(logits, batch.targets).sum(), carry

    (nats, carry), gradients = jax.value_and_grad(nats_of, has_aux=True)(state.network)
    nats, targets, gradients = _summed(
        (nats, (batch.targets >= 0).sum().astype(nats.dtype), gradients), settings.shards
    )
    loss, gradients = jax.tree.map(lambda total: total / jnp.maximum(targets, 1), (nats, gradients))
    updates, optimizer = settings.transformation().update(gradients, state.optimizer, state.network)
    network = jax.tree.map(lambda weight, update: weight - rate * update, state.network, updates)
    average = _averaged(state, network, settings.ema)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    taken = state._replace(network=network, optimizer=optimizer, carry=carry, average=average)
    after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), taken, state)
    return after._replace(step=state.step + 1), loss, norm


def _summed(arrays: Any, shards: int) -> Any:
    """Sums over all devices, as one array: for each one of its own the devices would wait for each other."""
    if shards == 1:
        return arrays
    side_by_side, apart = ravel_pytree(arrays)
    return apart(lax.psum(side_by_side, ROWS))


def _averaged(state: TrainState, network: Network, ema: float) -> Network | None:
    """The average with one more network in it, over a window that grows with the steps (Shamir & Zhang 2013)."""
    if state.average is None:
        return None
    share = 1 / (1 + ema * state.step.astype(jnp.float32))
    return jax.tree.map(lambda mean, weight: mean + share * (weight - mean), state.average, network)


@partial(jax.jit, static_argnames="settings", donate_argnames="state", compiler_options=COMPILER_OPTIONS)
def train_steps(
    state: TrainState, batches: Batch, rates: Array, count: Array, settings: StepSettings
) -> tuple[TrainState, Array, Array]:
    """Run the first `count` of `K` steps in one call, so that few steps compile like many.

    state: as `place` puts it. batches: parts `[K, T, B]`. rates: `[K]`. Returns the state, losses
    `[K]` and gradient norms `[K]`.
    """
    split = jax.shard_map(
        partial(_steps, settings), mesh=mesh_of(settings.shards), check_vma=False,
        in_specs=(_STATE_SPLIT, _BATCHES_SPLIT, P(), P()), out_specs=(_STATE_SPLIT, P(), P()),
    )  # fmt: skip
    return split(state, batches, rates, count)


def _steps(
    settings: StepSettings, state: TrainState, batches: Batch, rates: Array, count: Array
) -> tuple[TrainState, Array, Array]:
    """The steps as one device takes them."""

    def body(k: Array, loop: tuple[TrainState, Array, Array]) -> tuple[TrainState, Array, Array]:
        state, losses, norms = loop
        state, loss, norm = train_step(state, jax.tree.map(lambda part: part[k], batches), rates[k], settings)
        return state, losses.at[k].set(loss), norms.at[k].set(norm)

    nothing = jnp.zeros(rates.shape, jnp.float32)
    return lax.fori_loop(0, count, body, (state, nothing, nothing))


def stack(batches: list[Batch], capacity: int) -> Batch:
    """Batches side by side in arrays of a fixed `[K, T, B]`, zeros past the last."""
    parts = []
    for part in zip(*batches, strict=True):
        stacked = np.zeros((capacity, *part[0].shape), part[0].dtype)
        stacked[: len(part)] = part
        parts.append(stacked)
    return Batch(*parts)
