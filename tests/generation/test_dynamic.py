"""Dynamic evaluation: nothing is learnt before it is counted, nothing at all at rate 0."""

import jax
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation.dynamic import SEGMENT, Rates, dynamic_score
from charrnn.generation.score import score
from charrnn.nn.network import create
from charrnn.text.batches import Batch

V = 6
NETWORK = create(ModelConfig(cell="lstm", hidden_size=8, embedding_size=4), V, 2)


def windows_of(ids: np.ndarray) -> list[Batch]:
    inputs = np.concatenate([[0], ids[:-1]])
    parts = (inputs, ids, np.arange(len(ids)) == 0)
    return [Batch(*(part[at : at + 2 * SEGMENT, None] for part in parts)) for at in range(0, len(ids), 2 * SEGMENT)]


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.tile([2, 3, 4, 5, 4], 16 * SEGMENT // 5).astype(np.int32)


def nats(ids: np.ndarray, learning: float, decay: float) -> np.ndarray:
    return np.concatenate(list(dynamic_score(NETWORK, windows_of(ids), Rates(learning, decay))))


def test_rate_zero_is_the_static_score(ids: np.ndarray) -> None:
    static = np.concatenate(list(score(NETWORK, windows_of(ids), "float32")))
    np.testing.assert_allclose(nats(ids, 0.0, 0.0), static, atol=1e-5)


def test_a_segment_is_counted_before_it_is_learnt(ids: np.ndarray) -> None:
    static, learnt = nats(ids, 0.0, 0.0), nats(ids, 0.1, 0.0)
    np.testing.assert_allclose(learnt[:SEGMENT], static[:SEGMENT], atol=1e-5)
    other = ids.copy()
    other[3 * SEGMENT :] = 2  # what comes later changes nothing before it
    np.testing.assert_array_equal(nats(other, 0.1, 0.0)[: 3 * SEGMENT], learnt[: 3 * SEGMENT])
    assert learnt[-2 * SEGMENT :].mean() < 0.5 * static[-2 * SEGMENT :].mean()


def test_decay_holds_the_weights_back(ids: np.ndarray) -> None:
    free, held = nats(ids, 0.1, 0.0), nats(ids, 0.1, 1.0)
    static = nats(ids, 0.0, 0.0)
    assert free.mean() < held.mean() <= static.mean() + 0.01


def test_the_network_that_was_given_is_not_changed(ids: np.ndarray) -> None:
    before = jax.tree.map(np.array, NETWORK)
    nats(ids, 0.1, 0.0)
    jax.tree.map(np.testing.assert_array_equal, before, NETWORK)
