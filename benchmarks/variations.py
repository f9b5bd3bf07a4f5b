"""`charrnn` with one thing of its recipe done otherwise, for `benchmarks/recipe.py` to measure.

    python -m benchmarks.variations NAME train TEXT...
    python -m benchmarks.variations temperature RUN [TEMPERATURE...]

What is told apart here has been tried and is not part of the program, so it lives outside of it: a variation
replaces one function before anything is compiled. `temperature` tells what a run's held-out text costs
when its logits are divided by each temperature.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from charrnn.nn import network as networks
from charrnn.nn.arrays import Array, add_bias, dense
from charrnn.nn.network import Network
from charrnn.text.batches import NO_TARGET, Batch, TrainBatches
from charrnn.training import loop, step

_DECAY_FROM = 0.8
_INTERPOLATION = 0.9
_WARMUP_STEPS = 80
_DROPPED_CHARACTERS = 0.1
_TEMPERATURES = (0.9, 0.95, 1.0, 1.05, 1.1)


def stable() -> None:
    """Warmup, a constant rate, and a fall to a hundredth in the last fifth (Hu 2024, MiniCPM), not a cosine."""

    def rate(config: Any, spent: float) -> float:
        if spent < config.warmup:
            return float(config.learning_rate * max(spent / config.warmup, 0.01))
        left = (1 - spent) / (1 - _DECAY_FROM)
        return float(config.learning_rate * min(1.0, max(left, 0.01)))

    loop.learning_rate = rate


def schedule_free() -> None:
    """Gradients between the last weights and their mean, no schedule (Defazio 2024); --ema must not be 0.

    The network of the state is the paper's z, the average its x; y, between them, is what is trained and
    takes the place of Adam's momentum.
    """
    usual_step = step.train_step

    def rate(config: Any, taken: int) -> float:
        return float(config.learning_rate * min(1.0, (taken + 1) / _WARMUP_STEPS))

    def optimizer(name: str, weight_decay: float, clip_norm: float, *_: Any) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(weight_decay, mask=lambda all: jax.tree.map(lambda a: a.ndim > 1, all))
        return optax.chain(optax.clip_by_global_norm(clip_norm), optax.scale_by_adam(b1=0.0, b2=0.99), decay)

    def train_step(state: Any, batch: Batch, rate: Array, settings: Any) -> tuple[Any, Array, Array]:
        z, x = state.network, state.average
        y = jax.tree.map(lambda z, x: (1 - _INTERPOLATION) * z + _INTERPOLATION * x, z, x)
        after, loss, norm = usual_step(state._replace(network=y), batch, rate, settings)
        z = jax.tree.map(lambda z, y, stepped: z + (stepped - y), z, y, after.network)
        taken = state.step.astype(jnp.float32) + 1  # the share is rate^2 of all rates^2, where the rate rose linearly
        share = jnp.where(taken < _WARMUP_STEPS, jnp.minimum(1, 3 / taken), 1 / (taken - 2 / 3 * _WARMUP_STEPS + 1))
        x = jax.tree.map(lambda x, z: x + share * (z - x), x, z)
        return after._replace(network=z, average=x), loss, norm

    step.make_optimizer, step.train_step = optimizer, train_step
    loop._Loop._rate = lambda self, taken: rate(self.training, taken)  # type: ignore[method-assign]


def embedding_dropout() -> None:
    """A tenth of the alphabet is left out of a window's input (Gal & Ghahramani 2016)."""
    usual_call, usual_look_up = Network.__call__, networks.look_up
    keys = list[Array]()

    @contextmanager
    def held(key: Array | None) -> Iterator[None]:
        keys[:] = [] if key is None else [jax.random.fold_in(key, 1000)]
        yield
        keys.clear()

    def call(self: Network, *arrays: Any, key: Array | None = None, **more: Any) -> Any:
        with held(key):
            return usual_call(self, *arrays, key=key, **more)

    def look_up(table: Array, ids: Array) -> Array:
        if keys:
            kept = jax.random.bernoulli(keys[0], 1 - _DROPPED_CHARACTERS, (table.shape[0], 1)).at[-1].set(True)
            table = jnp.where(kept, table / (1 - _DROPPED_CHARACTERS), jnp.zeros((), table.dtype)).astype(table.dtype)
        return usual_look_up(table, ids)

    networks.look_up, Network.__call__ = look_up, call  # type: ignore[method-assign]


def tied() -> None:
    """The head multiplies with the embedding (Press & Wolf 2017); --embedding must be --hidden."""

    def head(self: Network, hidden: Array, precision: str) -> Array:
        kernel = self.embedding[...].T / np.sqrt(hidden.shape[-1]).astype(np.float32)
        return add_bias(dense(hidden, kernel, precision), self.head_bias[...])

    Network.head = head  # type: ignore[method-assign]


def moving_windows() -> None:
    """In each epoch the streams and their windows begin elsewhere, so that no window is read twice."""

    def batch(self: TrainBatches, number: int) -> Batch:
        epoch, window = divmod(number, self.steps_per_epoch)
        count, seed = len(self.positions), self.positions.selection.seed
        offset = int(np.random.default_rng([seed, 3, epoch]).integers(count))
        time = window * self.seq_length + np.arange(self.seq_length)[:, None]
        streams = np.arange(self.batch_size) * self.stream_length
        batch = self.positions.look_up((time + streams + offset) % count, epoch)
        batch.targets[np.broadcast_to(time >= self.stream_length, batch.targets.shape)] = NO_TARGET
        random = np.random.default_rng([seed, 2, number])
        batch.resets[:] |= random.random(batch.resets.shape) < self.reset_rate
        return batch

    TrainBatches.batch = batch  # type: ignore[method-assign]


VARIATIONS: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (stable, schedule_free, embedding_dropout, tied, moving_windows)
}


def temperatures(run: Path, values: list[float]) -> dict[float, float]:
    """Nats per character of a run's held-out text, by what its logits are divided by."""
    from charrnn.checkpoint import load_weights
    from charrnn.parts import part_of
    from charrnn.training.task import held_out_batches
    from charrnn.training.validation import validate

    config, vocabulary, network, _ = load_weights(run)
    assert config.training.seq_length
    batches = held_out_batches(part_of(config, "validation"), vocabulary, config.training.seq_length)
    kernel, bias = network.head_kernel[...], network.head_bias[...]
    nats = {}
    for temperature in values:
        network.head_kernel[...], network.head_bias[...] = kernel / temperature, bias / temperature
        found = validate(network, batches, config.training.precision)
        assert found is not None
        nats[temperature] = found.nats
    return nats


def main() -> None:
    """Do what the module's text says."""
    from charrnn.__main__ import main as charrnn
    from charrnn.training.devices import use_every_core

    if len(sys.argv) < 3 or sys.argv[1] not in {*VARIATIONS, "temperature"}:
        sys.exit(f"{__doc__}\nThe variations are {', '.join(VARIATIONS)}.")
    name, *rest = sys.argv[1:]
    if name == "temperature":
        use_every_core()
        run, *values = rest
        for temperature, nats in temperatures(Path(run), [float(value) for value in values or _TEMPERATURES]).items():
            print(f"{temperature:g}: {nats:.4f}")
        return
    VARIATIONS[name]()
    sys.argv = ["charrnn", *rest]
    charrnn()


if __name__ == "__main__":
    main()
