"""The classics: their grammars know their own, their sums are sums, and what the benchmark does works."""

import jax
import numpy as np
import pytest

from benchmarks import classics
from benchmarks.classics import adding_error, adding_problem, embedded, is_embedded, is_reber, legal_share, reber


def test_the_grammars_know_their_own() -> None:
    random = np.random.default_rng(0)
    assert all(is_reber(reber(random)) and is_embedded(embedded(random)) for _ in range(200))
    assert not any(is_reber(text) for text in ("BE", "BTE", "BTSE", "BPVVEE", "BTXXVVB"))
    assert not is_embedded("BTBTXSEPE") and is_embedded("BTBTXSETE") and not is_embedded("BTBTXSET")


def test_two_numbers_are_marked_one_in_each_half() -> None:
    inputs, sums = adding_problem(np.random.default_rng(0), 20, 50)
    numbers, marks = inputs[..., 0], inputs[..., 1]
    assert (marks[:10].sum(0) == 1).all() and (marks[10:].sum(0) == 1).all()
    np.testing.assert_allclose((numbers * marks).sum(0), sums, rtol=1e-6)


def test_a_short_training_has_an_error_and_draws_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, drawn = "minlstm", list[str]()
    monkeypatch.setattr(classics, "is_embedded", lambda text: drawn.append(text) or len(drawn) % 2 == 0)
    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        error, batches = adding_error(cell, 0, steps=3, length=6)
        assert batches == 3 and 0.05 < error < 2  # of numbers whose variance is a sixth
        assert legal_share(cell, 1, 0, steps=2, strings=20) == 0.5
    assert len(drawn) == 20 and len(set(drawn)) > 10 and set("".join(drawn)) <= set(classics.LETTERS)
