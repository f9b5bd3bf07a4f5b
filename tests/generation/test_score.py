"""Scores against probabilities worked out by hand, and their independence of how a text is cut."""

import jax
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation.score import Window, _score_as_drawn, score, total
from charrnn.nn.network import Network, create

V = 6


def network_of(cell: str = "lstm", seed: int = 3) -> Network:
    config = ModelConfig(cell=cell, num_layers=2, hidden_size=8, embedding_size=4)  # type: ignore[arg-type]
    random = np.random.default_rng(seed)  # biases too: zero ones would start with equal logits
    return jax.tree.map(
        lambda weights: 2 * weights + random.normal(0, 0.5, weights.shape).astype(np.float32),
        create(config, V, seed),
    )


def windows_of(ids: np.ndarray, size: int) -> list[Window]:
    """A text `[N, B]` in windows of equal length, the last padded with targets -1."""
    padding = np.full((-len(ids) % size, ids.shape[1]), -1)
    targets = np.concatenate([ids, padding])
    inputs = np.concatenate([np.zeros_like(ids[:1]), np.maximum(targets[:-1], 0)])
    resets = np.zeros(targets.shape, bool)
    resets[0] = True
    parts = [part.reshape(-1, size, ids.shape[1]) for part in (inputs, targets, resets)]
    return list(zip(*parts, strict=True))


def by_steps(network: Network, ids: np.ndarray) -> np.ndarray:
    """The nats of a text `[N, B]`, a character at a time."""
    batch = ids.shape[1]
    carry, nats = network.initial_carry(batch), []
    table, step = network.first_projections("float32"), jax.jit(network.step, static_argnums=3)
    for t, wanted in enumerate(ids):
        before = ids[t - 1] if t else np.full(batch, V)
        logits, carry = step(table, before, carry, "float32")
        nats.append(-np.asarray(jax.nn.log_softmax(logits))[np.arange(batch), wanted])
    return np.stack(nats)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_scores_are_those_of_the_loop_however_the_text_is_cut(cell: str) -> None:
    ids = np.random.default_rng(0).integers(0, V, (30, 3)).astype(np.int32)
    network = network_of(cell)
    expected = by_steps(network, ids)
    for size in (1, 7, 30, 64):
        nats = np.concatenate(list(score(network, windows_of(ids, size), "float32")))
        assert nats.dtype == np.float32
        np.testing.assert_allclose(nats[:30], expected, atol=1e-5)
        assert (nats[30:] == 0).all()


def test_total_counts_what_is_scored_and_holds_few_windows_at_a_time() -> None:
    network, ids = network_of(), np.random.default_rng(1).integers(0, V, (25, 2)).astype(np.uint8)
    windows = windows_of(ids.astype(np.int64), 8)
    asked: list[int] = []

    def lazily() -> object:
        for number, window in enumerate(windows):
            asked.append(number)
            yield window

    scored = score(network, lazily(), "float32")  # type: ignore[arg-type]
    first = next(scored)
    assert asked == [0, 1]  # the next is made ready while one is worked out
    nats, count = total(network, iter(windows), "float32")
    assert count == 50
    assert nats == pytest.approx(first.sum() + sum(part.sum() for part in scored), rel=1e-6)
    assert total(network, [], "float32") == (0.0, 0)


def test_one_compilation_for_all_integer_types() -> None:
    network, ids = network_of(), np.random.default_rng(2).integers(0, V, (9, 1))
    before = _score_as_drawn._cache_size()
    for kind in (np.uint8, np.uint16, np.int32, np.int64):
        inputs, targets, resets = windows_of(ids, 9)[0]
        list(score(network, [(inputs.astype(kind), targets, resets)] * 3, "float32"))
    assert _score_as_drawn._cache_size() == before + 1


def test_the_probabilities_of_all_targets_sum_to_one() -> None:
    every = np.arange(V, dtype=np.int32)[None]
    inputs, resets = np.zeros_like(every), np.ones(every.shape, bool)
    (nats,) = score(network_of(), [(inputs, every, resets)], "float32")
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-6)


def test_bfloat16_is_near_float32() -> None:
    network, ids = network_of(), np.random.default_rng(4).integers(0, V, (40, 4)).astype(np.int32)
    exact, _ = total(network, windows_of(ids, 20), "float32")
    near, _ = total(network, windows_of(ids, 20), "bfloat16")
    assert near == pytest.approx(exact, rel=0.02)
