"""What comes next, against the distribution worked out by trying everything."""

import itertools
import math

import jax
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation import next as ahead
from charrnn.generation.next import Kinds
from charrnn.generation.prepared import Prepared, prepare
from charrnn.nn.network import Network, create
from charrnn.text.vocabulary import EOS, UNK

V, A, B, SPACE, DOT = 6, 2, 3, 4, 5
KINDS = Kinds(np.isin(np.arange(V), [A, B, UNK]), np.arange(V) == SPACE)


@pytest.fixture(scope="module")
def network() -> Network:
    random = np.random.default_rng(5)
    config = ModelConfig(cell="lstm", num_layers=2, hidden_size=8, embedding_size=4)
    noisy = lambda weights: 2 * weights + random.normal(0, 0.6, weights.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(noisy, create(config, V, 1))


@pytest.fixture(scope="module")
def prepared(network: Network) -> Prepared:
    return prepare(network, "float32")


def test_reading_is_the_networks_own_pass_however_it_is_cut(network: Network, prepared: Prepared) -> None:
    ids = np.random.default_rng(0).integers(0, V, 300).astype(np.int32)
    inputs = np.concatenate([[EOS], ids[:-1]])[:, None].astype(np.int32)
    resets = (np.arange(300) == 0)[:, None]
    logits, _ = network(inputs, resets, network.initial_carry(1))
    expected = -np.asarray(jax.nn.log_softmax(logits))[np.arange(300), 0, ids]
    for cut in (0, 1, 256, 300):
        place = ahead.beginning(prepared, "float32")
        place, first = ahead.read(prepared, place, ids[:cut], "float32")
        place, rest = ahead.read(prepared, place, ids[cut:], "float32")
        np.testing.assert_allclose(np.concatenate([first, rest]), expected, atol=1e-5)
        assert np.exp(place.likelihoods).sum() == pytest.approx(1, abs=1e-5)


def test_the_likeliest_continuation_takes_the_best_id_each_time(prepared: Prepared) -> None:
    place = ahead.beginning(prepared, "float32")
    found = ahead.likeliest(prepared, place, 6, "float32")
    total = 0.0
    for number, chosen in enumerate(found.ids):
        likelihoods = np.array(place.likelihoods)
        total += likelihoods[chosen]
        likelihoods[UNK] = -np.inf
        assert chosen == likelihoods.argmax()
        assert chosen != EOS or number == len(found.ids) - 1
        place, _ = ahead.read(prepared, place, np.array([chosen]), "float32")
    assert found.likelihood == pytest.approx(total, abs=1e-5)


def words_by_trying(prepared: Prepared, start: ahead.Place, longest: int) -> dict[tuple[int, ...], float]:
    """Every word up to a length, with its log-probability, from the definition."""
    found = {}
    for size in range(1, longest + 1):
        for ids in itertools.product(range(V), repeat=size):
            spaces = next((k for k, i in enumerate(ids) if i != SPACE), size)
            rest = ids[spaces:]
            is_word = rest and all(i in (A, B) for i in rest)
            is_sign = len(rest) == 1 and rest[0] in (EOS, DOT)
            if not (is_word or is_sign):
                continue
            place, nats = ahead.read(prepared, start, np.array(ids), "float32")
            after = np.exp(np.asarray(place.likelihoods, np.float64))[[EOS, SPACE, DOT]].sum() if is_word else 1.0
            found[ids] = -float(nats.sum()) + math.log(after)
    return found


def test_words_are_the_likeliest_of_all(prepared: Prepared) -> None:
    start, _ = ahead.read(prepared, ahead.beginning(prepared, "float32"), np.array([A, SPACE, B]), "float32")
    every = words_by_trying(prepared, start, 4)
    expected = sorted(every.items(), key=lambda entry: -entry[1])[:5]
    found = ahead.words(prepared, start, KINDS, 5, "float32")
    assert [word.ids for word in found] == [ids for ids, _ in expected]
    np.testing.assert_allclose([word.likelihood for word in found], [value for _, value in expected], atol=1e-4)


def test_after_a_whole_word_comes_no_rest_of_it(prepared: Prepared) -> None:
    start, _ = ahead.read(prepared, ahead.beginning(prepared, "float32"), np.array([A, SPACE, B]), "float32")
    every = {ids: value for ids, value in words_by_trying(prepared, start, 4).items() if ids[0] not in (A, B)}
    ends = np.exp(np.asarray(start.likelihoods, np.float64))[[EOS, SPACE, DOT]].sum()
    expected = sorted(every.items(), key=lambda entry: -entry[1])[:5]
    found = ahead.words(prepared, start, KINDS, 5, "float32", anew=True)
    assert [word.ids for word in found] == [ids for ids, _ in expected]
    whole = [value - math.log(ends) for _, value in expected]
    np.testing.assert_allclose([word.likelihood for word in found], whole, atol=1e-4)
