"""Muon: a momentum whose matrices are made orthogonal, so that all its directions are learnt at one pace.

K. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; scaled as in Liu et al. 2025 (arXiv
2502.16982), so that it goes by the learning rates of Adam.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from charrnn.nn.arrays import Array, product
from charrnn.nn.sharding import ROWS

_MOMENTUM = 0.95
_ROOT_MEAN_SQUARE = 0.2
"""Of an update, as large as Adam's usually is."""

_COEFFICIENTS = np.array(
    [
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ],
    np.float32,
)
"""a, b, c of each iteration, which bring singular values from 0.01 to 1 near 1 in five (J. You, 2025)."""


def scale_by_muon(precision: str, shards: int) -> optax.GradientTransformation:
    """Of a Network the matrices, others being masked. With several `shards` it must be called inside the mesh, which
    divides the work.
    """

    def update(
        gradients: optax.Updates, momentum: optax.OptState, parameters: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        def follow(momentum: Array, gradient: Array) -> Array:
            return _MOMENTUM * momentum + (1 - _MOMENTUM) * gradient

        momentum = jax.tree.map(follow, momentum, gradients)
        ahead = jax.tree.map(follow, momentum, gradients)  # Nesterov's
        width = gradients.layers[0].hidden_size
        return jax.tree.map(lambda matrix: _by_gate(matrix, width, precision, shards), ahead), momentum

    return optax.GradientTransformation(lambda parameters: jax.tree.map(jnp.zeros_like, parameters), update)


def _by_gate(matrix: Array, width: int, precision: str, shards: int) -> Array:
    """Orthogonal, each gate's block of so many columns by itself: gates learn unlike things."""
    rows, columns = matrix.shape
    width = columns if columns % width else width
    blocks = jnp.stack(jnp.split(matrix, columns // width, -1))
    if len(blocks) % shards:
        shards = 1
    share = len(blocks) // shards
    if shards > 1:
        blocks = lax.dynamic_slice_in_dim(blocks, lax.axis_index(ROWS) * share, share)
    blocks = lax.map(lambda block: orthogonal(block, precision), blocks)
    if shards > 1:
        blocks = lax.all_gather(blocks, ROWS, tiled=True)
    return jnp.concatenate(list(blocks), -1) * (_ROOT_MEAN_SQUARE * max(rows, width) ** 0.5)


def orthogonal(matrix: Array, precision: str) -> Array:
    """Near U V^T for a matrix U S V^T, by the Newton-Schulz iteration X <- a X + (b A + c A^2) X, A = X X^T."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T, precision).T
    norm = jnp.sqrt(jnp.square(matrix).sum())

    def iterate(x: Array, coefficients: Array) -> tuple[Array, None]:
        a, b, c = coefficients
        squared = product(x, x, precision, (-1, -1))
        through = b * squared + c * product(squared, squared, precision)
        return a * x + product(through, x, precision).astype(x.dtype), None

    return lax.scan(iterate, matrix / (norm + 1e-7), jnp.asarray(_COEFFICIENTS, matrix.dtype))[0]
