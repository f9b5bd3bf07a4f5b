"""Joint products are the separate ones."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.nn import joint
from charrnn.nn.cells import make_cell
from charrnn.nn.layout import COLUMNS, ROWS, turned
from charrnn.nn.network import Network, create, rounded

V, H, B, T = 11, 8, 3, 5
OWN = {"rnn": 1, "lstm": 4, "lstm-coupled": 3, "gru": 2, "gru-reset-after": 3, "mgu": 1, "sru": 0, "mingru": 0}
"""Blocks of each cell's own matrices that multiply its output itself, as the candidates' of `gru` and `mgu` do not."""


def config_of(cell: str, hidden_size: int = H, **options: Any) -> ModelConfig:
    options = {"num_layers": 3, "embedding_size": 6} | options
    return ModelConfig(cell=cell, hidden_size=hidden_size, **options)  # type: ignore[arg-type]


def network_of(config: ModelConfig) -> Network:
    random = np.random.default_rng(0)  # biases too
    return jax.tree.map(lambda part: part + random.normal(0, 0.3, part.shape).astype(np.float32), create(config, V, 3))


def widths(config: ModelConfig) -> list[int]:
    """Those of the joint matrices."""
    joints = jax.eval_shape(lambda: joint.join(create(config, V, 0)))
    assert {one.matrix.shape[1] for one in joints} <= {config.hidden_size}
    return [len(one.matrix) for one in joints]


def both(network: Network, rows: int, axis: int, precision: str) -> tuple[Any, Any]:
    """The logits `[T, B, V]` and the state after some steps, by separate products and by joint ones."""
    ids = jnp.asarray(np.random.default_rng(1).integers(0, V, (T, rows)), jnp.int32)
    ids, table = ids.at[0].set(V), network.first_projections(precision)
    carry, joints = network.initial_carry(rows), joint.join(network)
    known = joint.ahead(joints, carry, precision)
    joints = joint.for_columns(network, joints) if axis == COLUMNS else joints
    turn = partial(jax.tree.map, partial(turned, axis=axis))

    def separate(carry: Any, before: Any) -> Any:
        return network.step(table, before, carry, precision)[::-1]

    def together(state: Any, before: Any) -> Any:
        logits, *state = joint.step(network, joints, turned(table[before], axis), *state, precision, axis)
        return tuple(state), turned(logits, axis)

    after, logits = jax.lax.scan(separate, carry, ids)
    (after_joint, _), joint_logits = jax.lax.scan(together, (turn(carry), turn(known)), ids)
    return (logits, after), (joint_logits, turn(after_joint))


@pytest.mark.parametrize("axis", [ROWS, COLUMNS], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["lstm-peephole", "gru", "gru-reset-after", "sru"])
def test_joint_steps_are_the_networks(name: str, axis: int) -> None:
    compiled = jax.jit(partial(both, rows=B, axis=axis, precision="float32"))
    (logits, after), (joint_logits, after_joint) = compiled(network_of(config_of(name)))
    assert len(np.unique(np.round(logits, 4))) > T * B * V / 2
    np.testing.assert_allclose(joint_logits, logits, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), after_joint, after)


@pytest.mark.as_drawn
@pytest.mark.parametrize(("rows", "axis"), [(2, ROWS), (32, COLUMNS)], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_in_bfloat16_they_are_so_to_the_bit(name: str, rows: int, axis: int) -> None:
    network = rounded(network_of(config_of(name, 272, num_layers=2)), jnp.dtype(jnp.bfloat16))
    separate, together = jax.jit(partial(both, rows=rows, axis=axis, precision="bfloat16"))(network)
    jax.tree.map(np.testing.assert_array_equal, together, separate)


@pytest.mark.parametrize(("name", "own"), OWN.items())
def test_what_multiplies_an_output_is_joined(name: str, own: int) -> None:
    gates = make_cell(config_of(name)).input_gates
    assert widths(config_of(name)) == [(own + gates) * H, (own + gates) * H, own * H + V]


def test_outputs_that_are_parts_of_something_else_are_not_joined() -> None:
    assert widths(config_of("mogrifier-lstm")) == widths(config_of("lstm", residual=True)) == []
    assert widths(config_of("lstm", residual=True, num_layers=1)) == [4 * H + V]
