"""How a network is made ready, and that neither the number of rows nor their layout changes what it draws."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation.prepared import Arranged, Prepared, arranged, lanes_for, plan_for, prepare, shape_for
from charrnn.nn.layout import COLUMNS, ROWS
from charrnn.nn.network import create

V = 9
LSTM = ModelConfig(cell="lstm", num_layers=1, hidden_size=8, embedding_size=0)


def prepared_of(cell: str, hidden_size: int, precision: str, **options: Any) -> Prepared:
    options = {"num_layers": 2, "embedding_size": 0} | options
    config = ModelConfig(cell=cell, hidden_size=hidden_size, **options)  # type: ignore[arg-type]
    return jax.eval_shape(lambda: prepare(create(config, V, 0), precision))


@pytest.mark.parametrize(("agreeing", "rows"), [((2, 4, 16, 32, 64), 64), ((2, 4, 16), 16), ((2,), 2)])
def test_a_plan_has_as_many_rows_as_agree_with_a_single_text(
    agreeing: tuple[int, ...], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agree(prepared: Prepared, ready: Arranged, rows: int, precision: str) -> bool:
        return rows in agreeing

    monkeypatch.setattr("charrnn.generation.prepared._agree", agree)
    plan = plan_for((64, 1), prepare(create(LSTM, V, 0), "bfloat16"), "bfloat16")
    assert (plan.rows, plan.lanes, plan.ready.axis) == (rows, 1, COLUMNS if rows >= 32 else ROWS)


@pytest.fixture
def traced_anew() -> Iterator[None]:
    """No program is kept that was traced before, or that was traced in the test."""
    jax.clear_caches()
    yield
    jax.clear_caches()


def test_rows_that_are_summed_in_another_order_do_not_agree(traced_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(create(LSTM, V, 0), "float32")
    step = Arranged.step

    def in_another_order(self: Arranged, before: Any, *rest: Any) -> Any:
        logits, *after = step(self, before, *rest)
        return (logits * jnp.float32(1 + 2**-20) if len(before) > 4 else logits, *after)

    monkeypatch.setattr(Arranged, "step", in_another_order)
    assert plan_for((64, 1), prepared, "float32").rows in (2, 4)


def test_as_many_rows_as_texts_on_each_device() -> None:
    narrow, wide = (prepared_of("lstm", size, "bfloat16") for size in (8, 512))
    shapes = [shape_for(texts, wide, "bfloat16") for texts in (1, 2, 3, 5, 17, 33, 1000)]
    assert shapes == [(rows, 1) for rows in (2, 2, 4, 16, 32, 64, 64)]
    assert [shape_for(texts, narrow, "float32") for texts in (16, 64, 1000)] == [(16, 1), (32, 2), (64, 4)]


def test_many_texts_of_narrow_networks_are_spread_over_devices() -> None:
    narrow, wide = (prepared_of("lstm", size, "bfloat16", num_layers=1) for size in (448, 449))
    assert [lanes_for(texts, narrow, "bfloat16") for texts in (1, 63, 64, 1000)] == [1, 1, 2, 4]
    assert lanes_for(1000, wide, "bfloat16") == 1 and lanes_for(1000, wide, "float32") == 4


@pytest.mark.parametrize(("precision", "residual", "rows", "axis"), [
    ("bfloat16", False, 32, COLUMNS), ("bfloat16", False, 64, COLUMNS), ("bfloat16", False, 16, ROWS),
    ("bfloat16", True, 64, ROWS), ("float32", False, 64, ROWS),
])  # fmt: skip
def test_many_rows_are_columns_where_products_are_joint(precision: str, residual: bool, rows: int, axis: int) -> None:
    config = ModelConfig(cell="gru", num_layers=2, hidden_size=8, embedding_size=0, residual=residual)
    prepared = prepare(create(config, V, 0), precision)
    ready = arranged(prepared, rows, precision)
    assert (ready.axis, ready.vocabulary_size) == (axis, V) and not prepared.joints
    if axis == ROWS:
        assert ready.table is prepared.table
    else:
        np.testing.assert_array_equal(ready.table, np.asarray(prepared.table).T)
        assert [one.matrix.shape for one in ready.joints] == [(5 * 8, 8), (2 * 8 + V, 8)]
