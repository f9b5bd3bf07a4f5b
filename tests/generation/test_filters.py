"""Each filter against a NumPy reference, and at its edges."""

import itertools

import jax
import numpy as np
import pytest

from charrnn.generation import filters
from charrnn.generation.constraints import MinLength, RepeatPenalty
from charrnn.generation.filters import Forbid, Greedy, MinP, Temperature, TopK, TopP
from charrnn.generation.repeats import NoRepeat

SIZES = [7, 67, filters._SMALL, filters._SMALL + 1, 1000]  # both sides of where a search takes over
ALL = [Forbid((0, 1)), Greedy(), Temperature(0.5), TopK(3), TopP(0.6), MinP(0.2)]


@jax.jit
def applied(one: filters.Filter, logits: np.ndarray) -> jax.Array:
    """The logits as a filter leaves them, in one program as the decoder runs it."""
    return one(logits)


def logits_of(size: int, rows: int = 5) -> np.ndarray:
    return np.random.default_rng(size).normal(0, 3, (rows, size)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def kept(filtered: jax.Array) -> np.ndarray:
    return np.isfinite(np.asarray(filtered))


def nucleus(logits: np.ndarray, p: float) -> np.ndarray:
    """Which ids the nucleus holds, one row at a time, by its definition."""
    result = np.zeros(logits.shape, bool)
    for row, shares in enumerate(softmax(logits)):
        order = np.argsort(-shares)
        count = int(np.searchsorted(np.cumsum(shares[order]), p)) + 1
        result[row, order[:count]] = True
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", [1, 2, 5, 10_000])
def test_top_k_keeps_the_k_largest(size: int, k: int) -> None:
    logits = logits_of(size)
    expected = logits >= np.sort(logits)[:, -min(k, size)][:, None]
    np.testing.assert_array_equal(applied(TopK(k), logits), np.where(expected, logits, -np.inf))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("p", [1e-60, 0.1, 0.5, 0.9, 0.99])
def test_top_p_keeps_the_nucleus(size: int, p: float) -> None:
    logits = logits_of(size)
    np.testing.assert_array_equal(applied(TopP(p), logits), np.where(nucleus(logits, p), logits, -np.inf))


@pytest.mark.parametrize("p", [1e-60, 0.01, 0.3, 1.0])
def test_min_p_keeps_what_is_near_the_likeliest(p: float) -> None:
    logits = logits_of(67)
    shares = softmax(logits)
    expected = shares >= p * shares.max(-1, keepdims=True)
    np.testing.assert_array_equal(applied(MinP(p), logits), np.where(expected, logits, -np.inf))


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 5.0])
def test_temperature_divides(temperature: float) -> None:
    logits = logits_of(67)
    np.testing.assert_allclose(
        softmax(np.asarray(applied(Temperature(temperature), logits))), softmax(logits / temperature), atol=1e-6
    )


def test_temperature_zero_keeps_the_first_of_the_likeliest() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, -np.inf, -1.0, -2.0]], np.float32)
    np.testing.assert_array_equal(kept(applied(Greedy(), logits)), [[0, 1, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-9, 1e9])
def test_extreme_temperatures_are_greedy_or_uniform(temperature: float) -> None:
    logits = logits_of(67)
    logits[:, 5] = -np.inf
    shares = softmax(np.asarray(applied(Temperature(temperature), logits)))
    even = np.where(np.isfinite(logits), 1 / 66, 0)
    np.testing.assert_allclose(shares, even if temperature > 1 else np.eye(67)[logits.argmax(-1)], atol=1e-6)


def test_forbid_rules_out_its_ids_alone() -> None:
    logits = logits_of(7)
    filtered = np.asarray(applied(Forbid((0, 3, 99)), logits))
    assert (filtered[:, [0, 3]] == -np.inf).all()
    np.testing.assert_array_equal(filtered[:, [1, 2, 4, 5, 6]], logits[:, [1, 2, 4, 5, 6]])


@pytest.mark.parametrize("size", [2, 7, 1000])
@pytest.mark.parametrize("apply", ALL, ids=repr)
def test_never_nan_and_never_nothing_left(apply: filters.Filter, size: int) -> None:
    rows = [logits_of(size)[0], np.zeros(size), np.full(size, -np.inf), np.full(size, -1e30), np.eye(size)[0] * 1e30]
    filtered = np.asarray(applied(apply, np.stack(rows).astype(np.float32)))
    assert not np.isnan(filtered).any()
    if not isinstance(apply, Forbid):
        assert kept(filtered)[[0, 1, 3, 4]].any(-1).all()


@pytest.mark.parametrize("apply", ALL, ids=repr)
def test_any_leading_axes(apply: filters.Filter) -> None:
    logits = logits_of(67, 6)
    together = np.asarray(applied(apply, logits.reshape(2, 3, 67))).reshape(6, 67)
    np.testing.assert_array_equal(together, np.stack([applied(apply, row) for row in logits]))


@pytest.mark.parametrize("apply", [TopK(1), TopK(4), TopP(0.3), TopP(0.95)], ids=repr)
def test_a_search_keeps_what_all_pairs_do(apply: filters.Filter, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = np.array([0.0, -0.0, -np.inf, 1e-42, -1e-42, 3.0, 3.0, np.nextafter(3.0, 4.0), -3e38, 2.0], np.float32)
    logits = np.stack([odd, odd[::-1], -np.abs(odd), np.full(10, -np.inf, np.float32), *logits_of(10)])
    pairs = np.asarray(jax.jit(apply.__call__)(logits))
    monkeypatch.setattr(filters, "_SMALL", 0)
    np.testing.assert_array_equal(np.asarray(jax.jit(lambda some: apply(some))(logits)), pairs)


def test_equals_are_kept_together() -> None:
    logits = np.array([2.0, 1.0, 1.0, 0.0], np.float32)
    for apply in (TopK(2), TopP(0.6), MinP(0.3)):
        np.testing.assert_array_equal(kept(applied(apply, logits)), [1, 1, 1, 0])


def test_filters_of_different_kinds_are_different_structures() -> None:
    """Or else JAX may take the program of one for another's."""
    others = [MinLength(2), RepeatPenalty(1.8, 2, 7), RepeatPenalty(1.8, 2, 8), NoRepeat(2, 2, 7), NoRepeat(3, 2, 7)]
    structures = [jax.tree.structure(one) for one in (*ALL, *others)]
    assert all(one != other for one, other in itertools.combinations(structures, 2))
    assert jax.tree.structure(TopP(0.5)) == jax.tree.structure(TopP(0.6))


def test_numbers_are_leaves_and_the_rest_is_static() -> None:
    """Another temperature or share runs the program that is there."""
    run = jax.jit(lambda chosen, logits: [one(logits) for one in chosen])
    logits = logits_of(7)
    for number in (0.3, 0.7):
        chosen = [Temperature(number), TopP(number), MinP(number), TopK(int(10 * number))]
        for one, filtered in zip(chosen, run(chosen, logits), strict=True):
            np.testing.assert_allclose(filtered, one(logits), rtol=1e-6)
    assert run._cache_size() == 1
