"""The one matrix product: its gradient has a formula of its own, which is held against JAX's."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.nn import arrays
from charrnn.nn.arrays import dense, dense_blocks, index_of_largest, kernel_gradient

in_every_precision = pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"),
    [("float64", "float64", 1e-13), ("float32", "float32", 1e-5), ("bfloat16", "float32", 1e-2)],
)


@in_every_precision
def test_dense_is_a_product_and_so_is_its_gradient(precision, dtype, tolerance):
    random = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        shapes = ((7, 3, 5), (5, 6), (7, 3, 6))
        inputs, kernel, weights = (jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)

        @partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
        def both(multiply, inputs, kernel):
            outputs, back = jax.vjp(multiply, inputs, kernel)
            return outputs, *back(weights)

        ours = both(partial(dense, precision=precision), inputs, kernel)
        plain = both(lambda inputs, kernel: jnp.einsum("tbd,df->tbf", inputs, kernel), inputs, kernel)
        for found, expected in zip(ours, plain, strict=True):
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@in_every_precision
@pytest.mark.parametrize("longest", [1, 4, 1024])  # terms of a sum, of which each of the three blocks has two
def test_dense_blocks_are_the_product_with_its_bias_cut(monkeypatch, longest, precision, dtype, tolerance):
    monkeypatch.setattr(arrays, "LONGEST_SUM", longest)
    random = np.random.default_rng(1)
    with jax.enable_x64(dtype == "float64"):
        shapes = ((7, 3, 5), (5, 6), (6,), (7, 3, 6))
        inputs, kernel, bias, weights = (jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)

        def blocks(inputs, kernel, bias):
            found = dense_blocks(inputs, kernel, bias, 3, precision)
            assert {block.dtype for block in found} == {jnp.dtype("bfloat16" if precision == "bfloat16" else dtype)}
            return jnp.concatenate([block.astype(dtype) for block in found], -1)

        def plain(inputs, kernel, bias):
            return jnp.einsum("tbd,df->tbf", inputs, kernel) + jnp.broadcast_to(bias, weights.shape)

        for found, expected in zip(
            *([values, *back(weights)] for values, back in (jax.vjp(f, inputs, kernel, bias) for f in (blocks, plain))),
            strict=True,
        ):
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "longest", [1, 8, 9, 21, 1024]
)  # rows, of which a step has 3: a step, two with a rest of one...
def test_a_kernels_gradient_is_the_sum_of_its_pieces(monkeypatch, longest, precision, columns):
    monkeypatch.setattr(arrays, "LONGEST_SUM", longest)
    random = np.random.default_rng(2)
    inputs, gradient = (jnp.asarray(random.normal(size=(7, 3, size)), jnp.float32) for size in (5, 6))
    found = kernel_gradient(inputs.swapaxes(1, 2) if columns else inputs, gradient, precision, columns)
    expected = np.einsum("tbd,tbf->df", inputs, gradient)
    assert found.shape == (5, 6) and found.dtype == jnp.float32
    assert np.linalg.norm(found - expected) <= {"float32": 1e-6, "bfloat16": 1e-2}[precision] * np.linalg.norm(expected)


@pytest.mark.parametrize(("longest", "rows"), [(1024, {21}), (21, {21}), (8, {12, 9}), (3, {3}), (1, {3})])
def test_no_sum_of_a_kernels_gradient_is_twice_too_long(monkeypatch, longest, rows):
    monkeypatch.setattr(arrays, "LONGEST_SUM", longest)
    inputs, gradient = np.zeros((7, 3, 5), jnp.bfloat16), np.zeros((7, 3, 6), jnp.bfloat16)
    program = jax.jit(lambda *pair: kernel_gradient(*pair, "bfloat16")).lower(inputs, gradient).as_text()
    assert {int(found) for found in re.findall(r"dot_general.*\(tensor<5x(\d+)xbf16>", program)} == rows


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 3.0, 2.0],
        [3.0, 1.0, 3.0],
        [-np.inf, -2.0, -np.inf],
        [-np.inf] * 3,
        [5.0, np.inf, np.inf],
        [-0.0, 0.0, -1.0],
    ],
)
def test_the_index_of_the_largest_is_argmax(values):
    rows = jnp.asarray([values, values[::-1], [0.0, 0.0, 1.0]], jnp.float32)
    found = index_of_largest(rows)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.argmax(rows, -1))
