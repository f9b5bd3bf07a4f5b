"""`charrnn` with one thing of its recipe done otherwise, for `benchmarks/recipe.py` to measure.

    python -m benchmarks.variations NAME train TEXT...
    python -m benchmarks.variations temperature RUN [TEMPERATURE...]

What is told apart here has been tried and is not part of the program, so it lives outside of it: a variation
replaces some function before anything is compiled. `temperature` tells what a run's held-out text costs
when its logits are divided by each temperature, beside the one that they have been divided by already.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from charrnn.nn import network as networks
from charrnn.nn.arrays import Array, State, add_bias, dense, sigmoid
from charrnn.nn.cells import LSTM
from charrnn.nn.network import Network
from charrnn.nn.recurrence import LookUp
from charrnn.text.batches import NO_TARGET, Batch, TrainBatches
from charrnn.training import loop, optimizer, step

_DECAY_FROM = 0.8
_INTERPOLATION = 0.9
_WARMUP_STEPS = 80
_DROPPED_CHARACTERS = 0.1
_HEAD_RANK = 64
_TEMPERATURES = (0.9, 0.95, 1.0, 1.05, 1.1)


def replace(owner: Any, name: str, value: Any) -> Any:
    """Put a value in the place of one that is there; returns that one."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


def no_temperature() -> None:
    """The network is kept as it was learnt, not at the temperature that the held-out text asks for."""
    replace(loop, "better_temperature", lambda found, temperature: 1.0)


def one_rate() -> None:
    """What reads a character, the head and the biases learn as fast as the matrices between hidden units."""
    replace(optimizer, "_faster_outside", lambda updates, _: updates)


def stable() -> None:
    """Warmup, a constant rate, and a fall to a hundredth in the last fifth (Hu 2024, MiniCPM), not a cosine."""

    def rate(config: Any, spent: float) -> float:
        left = (1 - spent) / (1 - _DECAY_FROM)
        return float(config.learning_rate * max(0.01, min(1.0, left, spent / config.warmup)))

    replace(loop, "learning_rate", rate)


def constant() -> None:
    """Warmup and a constant rate: averaging alone calms the weights."""
    replace(
        loop, "learning_rate", lambda config, spent: config.learning_rate * max(0.01, min(1, spent / config.warmup))
    )


def schedule_free() -> None:
    """Gradients between the last weights and their mean, no schedule (Defazio 2024); --ema must not be 0.

    The network of the state is the paper's z, the average its x; y, between them, is what is trained and
    takes the place of Adam's momentum.
    """

    def rate(self: Any, taken: int) -> float:
        return float(self.training.learning_rate * min(1.0, (taken + 1) / _WARMUP_STEPS))

    def make(name: str, weight_decay: float, clip_norm: float, *_: Any) -> optax.GradientTransformation:
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

    replace(step, "make_optimizer", make)
    usual_step = replace(step, "train_step", train_step)
    replace(loop._Loop, "_rate", rate)


def embedding_dropout() -> None:
    """A tenth of the alphabet is left out of a window's input (Gal & Ghahramani 2016)."""
    keys = list[Array]()

    def call(self: Network, *arrays: Any, key: Array | None = None, **more: Any) -> Any:
        keys[:] = [] if key is None else [jax.random.fold_in(key, 1000)]
        return usual_call(self, *arrays, key=key, **more)

    def look_up(table: Array, ids: Array) -> LookUp:
        if not keys:
            return LookUp(table, ids)
        bias = jnp.broadcast_to(table[-1:].astype(jnp.float32), table.shape)  # what a start reads, in every row
        kept = jax.random.bernoulli(keys[0], 1 - _DROPPED_CHARACTERS, (table.shape[0], 1))
        of_character = (table.astype(jnp.float32) - bias) / (1 - _DROPPED_CHARACTERS)
        dropped = bias + jnp.where(kept, of_character, jnp.zeros((), jnp.float32))
        return LookUp(dropped.astype(table.dtype), ids)

    usual_call = replace(Network, "__call__", call)
    replace(networks, "LookUp", look_up)


def tied() -> None:
    """The head multiplies with the embedding (Press & Wolf 2017) and a learnt scale; --embedding must be --hidden."""

    def initial(self: Network, *arguments: Any) -> None:
        usual_initial(self, *arguments)
        self.head_kernel[...] = jnp.ones_like(self.head_kernel[...])

    def head(self: Network, hidden: Array, precision: str) -> Array:
        scale = self.head_kernel[0, 0] / np.sqrt(hidden.shape[-1]).astype(np.float32)
        return add_bias(dense(hidden, self.embedding[...].T * scale, precision), self.head_bias[...])

    usual_initial = replace(Network, "__init__", initial)
    replace(Network, "head", head)


def factored() -> None:
    """The head is a product of two matrices, `[H, 64]` and `[64, V]`, as where large alphabets make it dear."""

    def initial(self: Network, config: Any, vocabulary_size: int, rngs: nnx.Rngs) -> None:
        usual_initial(self, config, vocabulary_size, rngs)
        glorot = nnx.initializers.glorot_uniform()
        self.head_kernel_down = nnx.Param(glorot(rngs.params(), (self.head_kernel.shape[0], _HEAD_RANK)))
        self.head_kernel = nnx.Param(glorot(rngs.params(), (_HEAD_RANK, vocabulary_size)))

    def head(self: Network, hidden: Array, precision: str) -> Array:
        low = dense(hidden, self.head_kernel_down[...], precision).astype(hidden.dtype)
        return add_bias(dense(low, self.head_kernel[...], precision), self.head_bias[...])

    usual_initial = replace(Network, "__init__", initial)
    replace(Network, "head", head)


def moving_windows() -> None:
    """In each epoch the streams of a document and their windows begin elsewhere: no window is read twice.

    It stands for windows of varied length, each of which would be a program to compile.
    """

    def batch(self: TrainBatches, number: int) -> Batch:
        assert not self.positions.selection.whole_documents, "for one long document"
        epoch, window = divmod(number, self.steps_per_epoch)
        count, seed = len(self.positions), self.positions.selection.seed
        offset = int(np.random.default_rng([seed, 3, epoch]).integers(count))
        time = window * self.seq_length + np.arange(self.seq_length)[:, None]
        streams = np.arange(self.batch_size) * self.stream_length
        batch = self.positions.look_up((time + streams + offset) % count, epoch)
        batch.targets[np.broadcast_to(time >= self.stream_length, batch.targets.shape)] = NO_TARGET
        batch.resets[0] |= window == 0
        random = np.random.default_rng([seed, 2, number])
        batch.resets[:] |= random.random(batch.resets.shape) < self.reset_rate
        return batch

    replace(TrainBatches, "batch", batch)


def capped_input() -> None:
    """The input gate is at most 1 - f, so that the cell state stays within bounds (Melis et al. 2018)."""

    def lstm_step(self: LSTM, product: Any, x: tuple[Array, ...], vectors: Any, state: State) -> State:
        h, c = state
        i, f, g, o = product("recurrent_kernel", h)
        f = sigmoid(f)
        c = f * c + jnp.minimum(sigmoid(i), 1 - f) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    replace(LSTM, "step", lstm_step)


VARIATIONS: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        no_temperature, one_rate, stable, constant, schedule_free, embedding_dropout, tied, factored, moving_windows,
        capped_input,
    )
}  # fmt: skip


def temperatures(run: Path, values: list[float]) -> tuple[float, dict[float, float]]:
    """The temperature a run has, and nats per character of its held-out text by what the logits are divided by too."""
    from charrnn.checkpoint import load_weights
    from charrnn.parts import part_of
    from charrnn.training.task import held_out_batches
    from charrnn.training.validation import at_temperature, validate

    config, vocabulary, network, validation = load_weights(run)
    assert config.training.seq_length
    batches = held_out_batches(part_of(config, "validation"), vocabulary, config.training.seq_length)
    nats = {}
    for temperature in values:
        found = validate(at_temperature(network, temperature), batches, config.training.precision)
        assert found is not None
        nats[temperature] = found.nats
    return validation.get("temperature", 1.0), nats


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
        before, nats = temperatures(Path(run), [float(value) for value in values or _TEMPERATURES])
        for temperature, cost in nats.items():
            print(f"{before:.3f} * {temperature:g}: {cost:.4f}")
        return
    VARIATIONS[name]()
    sys.argv = ["charrnn", *rest]
    charrnn()


if __name__ == "__main__":
    main()
