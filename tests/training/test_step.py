"""One training step: what is minimised, on whichever devices."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from charrnn.nn.network import NO_DROPOUT
from charrnn.nn.sharding import shards_for
from charrnn.text.batches import Batch
from charrnn.training.objective import negative_log_likelihood
from charrnn.training.step import StepSettings, initial_state, place, train_steps


@pytest.mark.parametrize("hidden_size", [8, 512])  # rows, and columns where the batch is large enough
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_train_step_lowers_for_accelerators(tiny_config, platform, hidden_size):
    model = dataclasses.replace(tiny_config.model, hidden_size=hidden_size, num_layers=2)
    training = dataclasses.replace(tiny_config.training, batch_size=32, precision="bfloat16")
    tiny_config = dataclasses.replace(tiny_config, model=model, training=training)
    state = initial_state(tiny_config, 11)
    # A flax module has no serialised form, so the exported function takes plain arrays.
    leaves, structure = jax.tree.flatten(state)

    @jax.jit
    def steps(leaves, batches, rates, count):
        state = jax.tree.unflatten(structure, leaves)  # what jit wraps, since compiler options are for the outermost
        result = train_steps.__wrapped__(state, Batch(*batches), rates, count, settings)
        return jax.tree.leaves(result)

    settings = dataclasses.replace(StepSettings.of(tiny_config), shards=1)
    batches = (np.zeros((2, 8, 32), np.int32), np.zeros((2, 8, 32), np.int32), np.zeros((2, 8, 32), bool))
    exported = export.export(steps, platforms=[platform])(leaves, batches, np.zeros(2, np.float32), np.int32(2))
    assert exported.platforms == (platform,)


def test_no_target_has_no_loss():
    logits = jnp.array([[[0.0, math.log(3.0)], [5.0, 1.0]]])
    losses = negative_log_likelihood(logits, jnp.array([[1, -1]]))
    np.testing.assert_allclose(losses, [[-math.log(0.75), 0.0]], rtol=1e-6)


@pytest.mark.parametrize(("shards", "optimizer"), [(2, "adamw"), (4, "adamw"), (2, "muon")])
def test_a_split_batch_is_the_whole_batch(tiny_config, shards, optimizer):
    tiny_config = dataclasses.replace(
        tiny_config, training=dataclasses.replace(tiny_config.training, optimizer=optimizer)
    )
    settings = dataclasses.replace(StepSettings.of(tiny_config), shards=shards, dropout=NO_DROPOUT)
    whole = dataclasses.replace(settings, shards=1)
    random = np.random.default_rng(0)
    shape = (3, 8, tiny_config.training.batch_size)
    targets = random.integers(-1, 11, shape, np.int32)  # some have none
    batches = Batch(random.integers(0, 11, shape, np.int32), targets, random.random(shape) < 0.1)
    rates = np.full(3, 1e-2, np.float32)
    ours, one = (
        train_steps(place(initial_state(tiny_config, 11), how), batches, rates, np.int32(3), how)
        for how in (settings, whole)
    )
    for found, expected in zip(jax.tree.leaves(ours[1:]), jax.tree.leaves(one[1:]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    for found, expected in zip(jax.tree.leaves(ours[0].carry), jax.tree.leaves(one[0].carry), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("shards", [1, 2])
def test_the_loss_and_the_gradient_are_of_the_mean_over_the_targets(tiny_config, shards):
    settings = dataclasses.replace(StepSettings.of(tiny_config), shards=shards, dropout=NO_DROPOUT)
    state, random = initial_state(tiny_config, 11), np.random.default_rng(1)
    shape = (2, 8, tiny_config.training.batch_size)
    targets = random.integers(0, 11, shape, np.int32)
    targets[0, :, 0] = targets[0, 2, 1:] = targets[1] = -1  # some have none, and in the second step all
    batches = Batch(random.integers(0, 11, shape, np.int32), targets, np.zeros(shape, bool))

    def mean(network):
        logits, _ = network(batches.inputs[0], batches.resets[0], state.carry, precision=settings.precision)
        return negative_log_likelihood(logits, targets[0]).sum() / np.float32((targets[0] >= 0).sum())

    loss, gradients = jax.jit(jax.value_and_grad(mean))(state.network)
    norm = optax.tree.norm(gradients)
    _, losses, norms = train_steps(place(state, settings), batches, np.zeros(2, np.float32), np.int32(2), settings)
    np.testing.assert_allclose(losses, [loss, 0.0], rtol=1e-5)
    np.testing.assert_allclose(norms, [norm, 0.0], rtol=1e-4)


def loss_of(config, settings, batch, step=0):
    """The loss that a step finds, which is of the weights before it."""
    state = initial_state(config, 11)._replace(step=jnp.asarray(step, jnp.int32))
    carry = jax.tree.map(lambda part: jnp.zeros((batch.inputs.shape[-1], *part.shape[1:])), state.carry)
    placed = place(state._replace(carry=carry), settings)
    return float(train_steps(placed, batch, np.zeros(1, np.float32), np.int32(1), settings)[1][0])


def batch_of(rows, times=1):
    """Random characters, the same rows so many times side by side."""
    ids = np.random.default_rng(3).integers(0, 11, (2, 1, 8, rows), np.int32)
    inputs, targets = np.concatenate([ids] * times, -1)
    return Batch(inputs, targets, np.zeros(inputs.shape, bool))


@pytest.mark.parametrize("dropped", [0.0, 0.5])
def test_each_step_and_each_device_drops_anew(tiny_config, dropped):
    model = dataclasses.replace(tiny_config.model, dropout=dropped)
    config = dataclasses.replace(tiny_config, model=model)
    one = dataclasses.replace(StepSettings.of(config), shards=1)
    first, again, later = (loss_of(config, one, batch_of(4), step) for step in (5, 5, 6))
    assert first == again
    assert (first != later) == bool(dropped)
    # Twice the same rows, on two devices: only what is dropped can make a difference.
    twice = loss_of(config, dataclasses.replace(one, shards=2), batch_of(4, times=2), 5)
    assert (abs(twice - first) > 1e-5) == bool(dropped)


def test_steps_have_the_precision_that_is_asked_for(tiny_config):
    exact = dataclasses.replace(StepSettings.of(tiny_config), shards=1, dropout=NO_DROPOUT)
    rounded = dataclasses.replace(exact, precision="bfloat16")
    losses = [loss_of(tiny_config, settings, batch_of(4)) for settings in (exact, rounded)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.01)


@pytest.mark.parametrize(
    ("batch_size", "shards"), [(1, 1), (8, 1), (16, 2), (24, 3), (32, 4), (64, 4), (50, 2), (53, 1)]
)
def test_batches_are_split_evenly_and_not_into_slivers(batch_size, shards):
    assert shards_for(batch_size, 512) == shards  # of the four devices that tests have
    assert shards_for(batch_size, 768) == 1
