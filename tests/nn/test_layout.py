"""Rows and columns, and what passes through a product in pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.nn import layout
from charrnn.nn.cells import Kernel, make_cell
from charrnn.nn.layout import COLUMNS, ROWS

B, H = 3, 5
RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("axis", [ROWS, COLUMNS])
@pytest.mark.parametrize("longest", [8, 20, 1024])  # of 20: 8, 8 and 4; all; all
def test_a_gradient_passes_through_a_product_in_pieces(monkeypatch, axis, longest):
    monkeypatch.setattr(layout, "LONGEST_SUM", longest)
    matrix = jnp.asarray(RANDOM.normal(size=(H, 4 * H)), jnp.bfloat16)
    blocks = tuple(jnp.asarray(RANDOM.normal(size=(B, H)), jnp.float32) for _ in range(4))
    factors = layout.backward_factors(matrix, Kernel(H, (H,) * 4, 4), axis)
    turned = tuple(layout.turned(block, axis) for block in blocks)
    through = layout.turned(layout.passed_through(turned, factors, "bfloat16", axis), axis)
    expected = np.concatenate(blocks, -1) @ np.asarray(matrix, np.float32).T
    assert through.shape == (B, H)
    assert np.linalg.norm(through - expected) <= 1e-2 * np.linalg.norm(expected)
    assert len(factors) == (4 if axis == COLUMNS else -(-20 // min(20, longest)))


@pytest.mark.parametrize(
    ("cell", "shape", "axis"),
    [
        ("lstm", (32, 512), COLUMNS),
        ("lstm", (31, 512), ROWS),
        ("lstm", (32, 511), ROWS),
        ("gru", (64, 1024), COLUMNS),
        ("mogrifier-lstm", (64, 1024), ROWS),
    ],
)
def test_large_states_of_elementwise_cells_are_columns(cell, shape, axis):
    assert layout.axis_for(make_cell(ModelConfig(cell=cell)), jnp.zeros(shape)) == axis


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_on_accelerators_states_are_rows(monkeypatch, accelerator):
    monkeypatch.setattr(jax, "default_backend", lambda: accelerator)
    assert layout.axis_for(make_cell(ModelConfig()), jnp.zeros((64, 1024))) == ROWS


@pytest.mark.parametrize("window", [(), (7,)])
def test_vectors_are_spread_over_rows_or_columns(window):
    vector = jnp.asarray(RANDOM.normal(size=4), jnp.float32)
    for axis, shape, expected in ((ROWS, (B, H), (B, 4)), (COLUMNS, (H, B), (4, B))):
        spread = layout.spread({"bias": vector}, jnp.zeros((*window, *shape)), axis)["bias"]
        assert spread.shape == (*window, *expected)
        np.testing.assert_allclose(layout.over_rows(spread, axis), np.broadcast_to(B * vector, (*window, 4)), rtol=1e-6)
