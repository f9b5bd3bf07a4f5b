"""The jitted work: several training steps a call, and one window of validation."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from charrnn.config import RunConfig
from charrnn.nn.arrays import Array, Carry
from charrnn.nn.network import Network, create
from charrnn.text.batches import Batch, ValidationBatches
from charrnn.training.objective import mean_loss, negative_log_likelihood
from charrnn.training.optimizer import make_optimizer


class TrainState(NamedTuple):
    """All that a step depends on besides its batch and its learning rate."""

    network: Network
    optimizer: Any
    carry: Carry
    step: Array


@dataclass(frozen=True)
class StepSettings:
    """What a step is compiled for."""

    optimizer: str
    weight_decay: float
    clip_norm: float
    precision: str
    dropout: float
    seed: int

    @classmethod
    def of(cls, config: RunConfig) -> "StepSettings":
        """The settings of a run."""
        training, dropout = config.training, config.model.dropout or 0.0
        return cls(
            training.optimizer, training.weight_decay, training.clip_norm, training.precision, dropout, training.seed
        )

    def transformation(self) -> optax.GradientTransformation:
        """The optimizer these settings name."""
        return make_optimizer(self.optimizer, self.weight_decay, self.clip_norm)


def initial_state(config: RunConfig, vocabulary_size: int) -> TrainState:
    """The state before the first step."""
    network = create(config.model, vocabulary_size, config.training.seed)
    optimizer = StepSettings.of(config).transformation().init(network)
    assert config.training.batch_size is not None
    return TrainState(network, optimizer, network.initial_carry(config.training.batch_size), jnp.zeros((), jnp.int32))


def train_step(state: TrainState, batch: Batch, rate: Array, settings: StepSettings) -> tuple[TrainState, Array, Array]:
    """One optimizer step on a `[T, B]` batch. Returns the state, the loss in nats and the gradient norm."""
    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)

    def loss_of(network: Network) -> tuple[Array, Carry]:
        logits, carry = network(
            batch.inputs, batch.resets, state.carry, precision=settings.precision, dropout=settings.dropout, key=key
        )
        return mean_loss(logits, batch.targets), carry

    (loss, carry), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.network)
    updates, optimizer = settings.transformation().update(gradients, state.optimizer, state.network)
    network = jax.tree.map(lambda weight, update: weight - rate * update, state.network, updates)
    return TrainState(network, optimizer, carry, state.step + 1), loss, optax.tree.norm(gradients)


@partial(jax.jit, static_argnames="settings", donate_argnames="state")
def train_steps(
    state: TrainState, batches: Batch, rates: Array, count: Array, settings: StepSettings
) -> tuple[TrainState, Array, Array]:
    """Run the first `count` of `K` steps in one call, so that few steps compile like many.

    batches: parts `[K, T, B]`. rates: `[K]`. Returns the state, losses `[K]` and gradient norms `[K]`.
    """

    def body(k: Array, loop: tuple[TrainState, Array, Array]) -> tuple[TrainState, Array, Array]:
        state, losses, norms = loop
        state, loss, norm = train_step(state, jax.tree.map(lambda part: part[k], batches), rates[k], settings)
        return state, losses.at[k].set(loss), norms.at[k].set(norm)

    nothing = jnp.zeros(rates.shape, jnp.float32)
    return lax.fori_loop(0, count, body, (state, nothing, nothing))


@partial(jax.jit, static_argnames="precision")
def validation_step(network: Network, batch: Batch, carry: Carry, nats: Array, precision: str) -> tuple[Carry, Array]:
    """Add the nats of one window to a running sum."""
    logits, carry = network(batch.inputs, batch.resets, carry, precision=precision)
    return carry, nats + negative_log_likelihood(logits, batch.targets).sum()


def validate(network: Network, batches: ValidationBatches, precision: str) -> float:
    """Nats per character over the whole held-out text, the state carried through it."""
    carry, nats = network.initial_carry(batches.batch_size), jnp.zeros(())
    for window in range(len(batches)):
        carry, nats = validation_step(network, batches.batch(window), carry, nats, precision)
    return float(nats) / len(batches.positions)


def stack(batches: list[Batch], capacity: int) -> Batch:
    """Batches side by side in arrays of a fixed `[K, T, B]`, zeros past the last."""
    parts = []
    for part in zip(*batches, strict=True):
        stacked = np.zeros((capacity, *part[0].shape), part[0].dtype)
        stacked[: len(part)] = part
        parts.append(stacked)
    return Batch(*parts)
