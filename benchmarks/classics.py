"""Two classics by which the field tells that a recurrent cell is right.

    python -m benchmarks.classics [--cells lstm gru ...] [--seeds 1]

The adding problem (Hochreiter & Schmidhuber 1997): the sum of the two marked numbers of 200, told after the last.
Always answering 1 has a mean squared error of 0.167; training ends where 50 batches' mean is below 0.005, or
after 4,000 batches of 64. The embedded Reber grammar: the share of 1,000 drawn strings that are legal after
1,500 batches of 64, which asks for a letter to be remembered across a string of any length. 64 units each.
A gated cell that does not learn both (an error under 0.02, 99 % legal) ends it with an error; of cells whose gates
see the input alone, two layers of which read the grammar, 95 % are asked. Trials that
`results/classics.jsonl` holds already are not made again; the table is of all that it holds.
"""

import argparse
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.machine import RESULTS, describe, keep_trial, kept_trials, write_result
from charrnn.config import ModelConfig
from charrnn.generation.prepared import prepare
from charrnn.generation.texts import pieces
from charrnn.nn import recurrence
from charrnn.nn.arrays import Array
from charrnn.nn.cells import CELLS, LinearCell
from charrnn.nn.network import Layer, Network, create

GATED = tuple(cell for cell in CELLS if cell not in ("rnn", "rnn-relu"))
TRIALS = RESULTS / "classics.jsonl"
HIDDEN, ROWS = 64, 64
LENGTH, ADDING_STEPS, LEARNT = 200, 4000, 0.005
REBER_STEPS, REBER_LENGTH, STRINGS = 1500, 64, 1000

REBER = {0: "T1 P2", 1: "S1 X3", 2: "T2 V4", 3: "X2 S5", 4: "P3 V5"}
"""From each state the letters that may follow and the states they lead to; 5 is the last."""

LETTERS = "\0\1BTPSXVE"
"""By id, the first two being EOS and UNK."""


def adding_problem(random: np.random.Generator, length: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and marks `[T, B, 2]`, one mark in each half; the targets `[B]` are the sums of the marked numbers."""
    numbers, marks, half = random.random((length, rows)), np.zeros((length, rows)), length // 2
    every = np.arange(rows)
    marks[random.integers(0, half, rows), every] = marks[random.integers(half, length, rows), every] = 1
    return np.stack([numbers, marks], -1).astype(np.float32), (numbers * marks).sum(0).astype(np.float32)


class Adder(NamedTuple):
    """One recurrent layer, and what makes a number `[B]` of its last output `[B, H]`."""

    layer: Layer
    weights: Array
    bias: Array

    def __call__(self, inputs: Array) -> Array:
        resets = jnp.zeros(inputs.shape[:2], bool)
        state = self.layer.initial_state(inputs.shape[1], jnp.dtype("float32"))
        blocks = self.layer.project_window(inputs, "float32")
        outputs, _ = recurrence.run(self.layer.cell, self.layer.weights, blocks, state, resets, "float32")
        return outputs[-1] @ self.weights + self.bias


def adding_error(cell: str, seed: int, steps: int = ADDING_STEPS, length: int = LENGTH) -> tuple[float, int]:
    """The mean squared error over the last 50 batches, each met for the first time, and how many were taken."""
    layer = Layer(2, ModelConfig(cell=cell, hidden_size=HIDDEN, forget_bias=3.0), nnx.Rngs(seed))
    adder = Adder(layer, jnp.zeros(HIDDEN), jnp.ones(()))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    @jax.jit
    def learn(adder: Adder, state: Any, inputs: Array, targets: Array) -> tuple[Adder, Any, Array]:
        def loss_of(adder: Adder) -> Array:
            return ((adder(inputs) - targets) ** 2).mean()

        loss, gradients = jax.value_and_grad(loss_of)(adder)
        updates, state = optimizer.update(gradients, state, adder)
        return optax.apply_updates(adder, updates), state, loss

    random, state, losses = np.random.default_rng(seed), optimizer.init(adder), list[float]()
    while len(losses) < steps and not (len(losses) >= 50 and np.mean(losses[-50:]) < LEARNT):
        adder, state, loss = learn(adder, state, *adding_problem(random, length, ROWS))
        losses.append(float(loss))
    return float(np.mean(losses[-50:])), len(losses)


def reber(random: np.random.Generator) -> str:
    """A string of the grammar, B and E included."""
    state, text = 0, "B"
    while state != 5:
        letter, state = random.choice(REBER[state].split())
        text, state = text + letter, int(state)
    return text + "E"


def is_reber(text: str) -> bool:
    """Whether the grammar can write a string."""
    state = 0
    for letter in text[1:-1]:
        following = dict(REBER[state].split()) if state in REBER else {}
        if letter not in following:
            return False
        state = int(following[letter])
    return state == 5 and text[:1] == "B" and text[-1:] == "E" and len(text) > 2


def embedded(random: np.random.Generator) -> str:
    """A string of the embedded grammar: the second letter must come back before the last."""
    side = random.choice(["T", "P"])
    return f"B{side}{reber(random)}{side}E"


def is_embedded(text: str) -> bool:
    """Whether the embedded grammar can write a string."""
    ends = len(text) > 6 and text[0] == "B" and text[-1] == "E" and text[1] in "TP" and text[1] == text[-2]
    return ends and is_reber(text[2:-2])


def reber_batch(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Strings as ids `[T, B]`, each after an EOS, and targets with -1 past the EOS that ends them."""
    targets = np.full((REBER_LENGTH, ROWS), -1, np.int32)
    for row in range(ROWS):
        text = embedded(random)
        while len(text) >= REBER_LENGTH:
            text = embedded(random)
        targets[: len(text) + 1, row] = [*map(LETTERS.index, text), 0]
    return np.concatenate([np.zeros((1, ROWS), np.int32), np.maximum(targets[:-1], 0)]), targets


def legal_share(cell: str, layers: int, seed: int, steps: int = REBER_STEPS, strings: int = STRINGS) -> float:
    """The share of drawn strings that the embedded grammar could have written."""
    embedding = 16 if cell == "mogrifier-lstm" else 0
    config = ModelConfig(cell=cell, num_layers=layers, hidden_size=HIDDEN, embedding_size=embedding)
    network = create(config, len(LETTERS), seed)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, steps)))
    resets = jnp.zeros((REBER_LENGTH, ROWS), bool).at[0].set(True)

    @jax.jit
    def learn(network: Network, state: Any, inputs: Array, targets: Array) -> tuple[Network, Any]:
        def loss_of(network: Network) -> Array:
            logits, _ = network(inputs, resets, network.initial_carry(ROWS))
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
            return jnp.where(targets >= 0, nats, 0.0).sum() / (targets >= 0).sum()

        updates, state = optimizer.update(jax.grad(loss_of)(network), state, network)
        return optax.apply_updates(network, updates), state

    random, state = np.random.default_rng(seed), optimizer.init(network)
    for _ in range(steps):
        network, state = learn(network, state, *reber_batch(random))
    texts = [""] * strings
    prepared, nothing = prepare(network, "float32"), np.zeros(0, np.int32)
    for piece in pieces(prepared, nothing, (), seed=seed, texts=strings, length=100):
        texts[piece.number] += "".join(LETTERS[k] for k in piece.ids if k)
    return sum(map(is_embedded, texts)) / strings


def measure(cell: str, seed: int) -> dict[str, Any]:
    """Both classics with one cell; linear cells, whose gates see no state, have a second layer for the grammar."""
    layers = 2 if issubclass(CELLS[cell], LinearCell) else 1
    started = time.perf_counter()
    error, batches = adding_error(cell, seed)
    legal = legal_share(cell, layers, seed)
    figures = {"error": round(error, 4), "batches": batches, "layers": layers, "legal": round(legal, 4)}
    return {"cell": cell, "seed": seed, **figures, "seconds": round(time.perf_counter() - started)}


def table(trials: list[dict[str, Any]]) -> str:
    """All trials in the order of the cells."""
    lines = [describe(), "trials of `python -m benchmarks.classics`", ""]
    lines.append(f"{'':15} {'':>4}    adding problem      embedded Reber")
    lines.append(f"{'cell':15} {'seed':>4} {'error':>8} {'batches':>8}  {'layers':>8} {'legal':>7}")
    for trial in sorted(trials, key=lambda trial: (list(CELLS).index(trial["cell"]), trial["seed"])):
        lines.append(
            f"{trial['cell']:15} {trial['seed']:4} {_error(trial):>8} {trial['batches']:8,}  "
            f"{trial['layers']:8} {trial['legal']:7.1%}"
        )
    return "\n".join(lines)


def _error(trial: dict[str, Any]) -> str:
    return "diverged" if math.isnan(trial["error"]) else f"{trial['error']:.4f}"


def _learnt(trial: dict[str, Any]) -> bool:
    least = 0.95 if issubclass(CELLS[trial["cell"]], LinearCell) else 0.99
    return trial["error"] <= 0.02 and trial["legal"] >= least


def main() -> None:
    """Make the trials that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    done = {(trial["cell"], trial["seed"]) for trial in kept_trials(TRIALS)}
    for seed in range(arguments.seeds):
        for cell in arguments.cells:
            if (cell, seed) not in done:
                keep_trial(TRIALS, measure(cell, seed))
    trials = kept_trials(TRIALS)
    write_result("classics.txt", table(trials))
    failed = [trial for trial in trials if trial["cell"] in GATED and not _learnt(trial)]
    assert not failed, f"gated cells that did not learn: {failed}"
    assert all(trial["error"] > 0.1 for trial in trials if trial["cell"] == "rnn"), "what fades at 200 steps did not"


if __name__ == "__main__":
    main()
