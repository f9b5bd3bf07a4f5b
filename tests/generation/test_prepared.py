"""How a network is made ready, and that neither the number of rows nor their layout changes what it draws."""

from typing import Any

import jax
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation.prepared import Prepared, arranged, axis_for, lanes_for, prepare, slots_for
from charrnn.nn.arrays import product
from charrnn.nn.layout import COLUMNS, ROWS
from charrnn.nn.network import create

V = 9


def prepared_of(cell: str, hidden_size: int, precision: str, **options: Any) -> Prepared:
    options = {"num_layers": 2, "embedding_size": 0} | options
    config = ModelConfig(cell=cell, hidden_size=hidden_size, **options)  # type: ignore[arg-type]
    return jax.eval_shape(lambda: prepare(create(config, V, 0), precision))


@pytest.mark.as_drawn
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("inner", "outer"), [(8, 32), (100, 400), (128, 67), (512, 67), (768, 96)])
def test_the_rows_of_products_do_not_depend_on_how_many_there_are(inner: int, outer: int, precision: str) -> None:
    """What `slots_for` and `arranged` rest on: were it otherwise somewhere, their numbers would change."""
    random, prepared = np.random.default_rng(0), prepared_of("lstm", 8, precision)
    numbers = sorted({slots_for(texts, prepared, precision) for texts in (1, 2, 3, 4, 5, 16, 17, 32, 33, 64, 1000)})
    rows = random.normal(size=(numbers[-1], inner)).astype(np.float32)
    kernel = random.normal(size=(inner, outer)).astype(np.float32)
    multiply = jax.jit(product, static_argnums=2)
    together = np.asarray(multiply(rows, kernel, precision))
    assert numbers == ([2, 16] if precision == "float32" else [2, 4, 16, 32, 64])
    for number in numbers:
        np.testing.assert_array_equal(multiply(rows[:number], kernel, precision), together[:number])
        if precision == "bfloat16" and number >= 32:
            columns = multiply(kernel.T.copy(), rows[:number].T.copy(), precision)
            np.testing.assert_array_equal(np.asarray(columns).T, together[:number])
    np.testing.assert_array_equal(multiply(rows[::-1], kernel, precision), together[::-1])


def test_products_of_both_types_are_drawn_with_as_many_rows_as_suit_either() -> None:
    mixed = prepared_of("mogrifier-lstm", 8, "bfloat16", embedding_size=4)
    assert [slots_for(texts, mixed, "bfloat16") for texts in (1, 2, 3, 40, 1000)] == [2, 2, 16, 16, 16]


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
    assert axis_for(ready, rows) == axis and not prepared.joints
    if axis == ROWS:
        assert ready is prepared
    else:
        np.testing.assert_array_equal(ready.table, np.asarray(prepared.table).T)
        assert [one.matrix.shape for one in ready.joints] == [(5 * 8, 8), (2 * 8 + V, 8)]
