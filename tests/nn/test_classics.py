"""Two classics by which the field tells that a gated cell is right. Slow: run with `-m slow`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from charrnn.config import ModelConfig
from charrnn.nn import recurrence
from charrnn.nn.cells import CELLS
from charrnn.nn.network import Layer, Network, create

GATED = ("lstm", "lstm-peephole", "lstm-coupled", "gru", "gru-reset-after", "gru-simple", "mgu")


def adding_problem(random: np.random.Generator, length: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers `[T, B, 2]` of which two are marked, one in each half; the target is their sum (Hochreiter 1997)."""
    numbers, marks, half = random.random((length, rows)), np.zeros((length, rows)), length // 2
    rows_ = np.arange(rows)
    marks[random.integers(0, half, rows), rows_] = marks[random.integers(half, length, rows), rows_] = 1
    return np.stack([numbers, marks], -1).astype(np.float32), (numbers * marks).sum(0).astype(np.float32)


def adding_error(cell: str, steps: int, length: int = 200, rows: int = 64, hidden_size: int = 64) -> float:
    """The mean squared error on fresh sequences after training; always answering 1 has 1/6."""
    from flax import nnx

    bias = {"forget_bias": 3.0} if cell in GATED else {}
    layer = Layer(2, ModelConfig(cell=cell, hidden_size=hidden_size, **bias), nnx.Rngs(0))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    parameters = (layer, jnp.zeros(hidden_size), jnp.ones(()))

    def loss_of(parameters: tuple, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        layer, weights, bias = parameters
        resets = jnp.zeros(inputs.shape[:2], bool)
        state = layer.initial_state(inputs.shape[1], jnp.dtype("float32"))
        outputs, _ = recurrence.run(
            layer.cell, layer.weights, layer.project(inputs, "float32"), state, resets, "float32"
        )
        return ((outputs[-1] @ weights + bias - targets) ** 2).mean()

    @jax.jit
    def learn(parameters, state, inputs, targets):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, inputs, targets)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    random, losses = np.random.default_rng(0), []
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(parameters)
        for _ in range(steps):
            parameters, state, loss = learn(parameters, state, *adding_problem(random, length, rows))
            losses.append(float(loss))
            if len(losses) >= 50 and np.mean(losses[-50:]) < 0.005:
                break
    return float(np.mean(losses[-50:]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cell", GATED)
def test_gated_cells_learn_to_add_over_two_hundred_steps(cell):
    assert adding_error(cell, 4000) < 0.02


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_simple_network_does_not():
    assert adding_error("rnn", 4000) > 0.1


# The Reber grammar: from each state the letters that may follow and the states they lead to.
REBER = {0: "T1 P2", 1: "S1 X3", 2: "T2 V4", 3: "X2 S5", 4: "P3 V5"}
LETTERS = "\0\1BTPSXVE"


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
    return (
        len(text) > 6 and text[0] == "B" and text[-1] == "E" and text[1] in "TP"
        and text[1] == text[-2] and is_reber(text[2:-2])
    )  # fmt: skip


def test_the_grammars_know_their_own():
    random = np.random.default_rng(0)
    assert all(is_reber(reber(random)) and is_embedded(embedded(random)) for _ in range(200))
    assert not any(is_reber(text) for text in ("BE", "BTE", "BTSE", "BPVVEE", "BTXXVVB"))
    assert not is_embedded("BTBTXSEPE") and is_embedded("BTBTXSETE") and not is_embedded("BTBTXSET")


def reber_batch(random: np.random.Generator, rows: int, length: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Strings as ids `[T, B]`, id 0 (EOS) after each, and targets with -1 past it."""
    targets = np.full((length, rows), -1, np.int32)
    for row in range(rows):
        text = embedded(random)
        while len(text) >= length:
            text = embedded(random)
        targets[: len(text) + 1, row] = [*(LETTERS.index(letter) for letter in text), 0]
    return np.concatenate([np.zeros((1, rows), np.int32), np.maximum(targets[:-1], 0)]), targets


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cell", GATED)
def test_gated_cells_write_legal_embedded_reber_strings(cell):
    from charrnn.config import SampleConfig
    from charrnn.generation.decode import stream

    network = create(ModelConfig(cell=cell, hidden_size=64, embedding_size=0), len(LETTERS), 0)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 1500)))
    resets = jnp.zeros((64, 64), bool).at[0].set(True)

    @jax.jit
    def learn(network: Network, state, inputs, targets):
        def loss_of(network: Network) -> jax.Array:
            logits, _ = network(inputs, resets, network.initial_carry(64))
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
            return jnp.where(targets >= 0, nats, 0.0).sum() / (targets >= 0).sum()

        updates, state = optimizer.update(jax.grad(loss_of)(network), state, network)
        return optax.apply_updates(network, updates), state

    random = np.random.default_rng(0)
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(network)
        for _ in range(1500):
            network, state = learn(network, state, *reber_batch(random, 64))
    config = SampleConfig(temperature=1.0, length=100)
    ids = [ids for ids, _ in stream(network, np.zeros(0, np.int32), config, vocabulary_size=9, seed=0, rows=1000)]
    drawn = np.concatenate(ids)
    texts = ["".join(LETTERS[k] for k in row[: (row == 0).argmax() if (row == 0).any() else None]) for row in drawn.T]
    assert sum(map(is_embedded, texts)) > 990


def test_every_gated_cell_is_a_cell():
    assert set(GATED) < set(CELLS)
