"""A network made ready for many single steps, and with how many rows on how many devices texts are drawn."""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from charrnn.nn import joint
from charrnn.nn.arrays import COMPILER_OPTIONS, Array, Carry, columns_of, packed, rows_of, storage_type
from charrnn.nn.joint import Ahead, Joint
from charrnn.nn.layout import COLUMNS, ROWS, turned
from charrnn.nn.network import Network, before_any, rounded

_ROWS = (2, 4, 16, 32, 64)
"""How many rows a device may draw with: few numbers, since each is a program to compile."""

_WIDEST_LANE, _FEWEST_IN_A_LANE = 448, 32
"""Units of a layer and texts with which it pays to spread texts over devices."""

_NARROW_LAYER = 256
"""Up to so many units joint products of few rows are no faster."""

_FEWEST_COLUMNS = 32
"""With so many rows states as columns are faster."""

_STEPS = 4
"""So many steps of several rows are compared with those of a single text."""


class Prepared(NamedTuple):
    """A network made ready for single steps of few rows.

    network: its matrices rounded to the precision. table: `first_projections`, `packed`, `[V + 1, G*H]`.
    joints: the matrices side by side where that is faster, else none.
    """

    network: Network
    table: Array
    joints: tuple[Joint, ...] = ()


@partial(jax.tree_util.register_dataclass, data_fields=["network", "table", "joints"], meta_fields=["axis"])
@dataclass(frozen=True)
class Arranged:
    """A network as texts are drawn from it, with states as rows or, where they are many, as columns.

    table: that of `Prepared`, or `[G*H, V + 1]` for columns.
    """

    network: Network
    table: Array
    joints: tuple[Joint, ...]
    axis: int = field(default=ROWS)

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are."""
        return self.table.shape[0 if self.axis == ROWS else 1] - 1

    def step(self, before: Array, carry: Carry, known: Ahead, precision: str) -> tuple[Array, Carry, Ahead]:
        """One step from the characters before, `[B]`, the states, and what `joint` knows of them.

        Returns the logits `[B, V]`, the states and what is known of them.
        """
        if not self.joints:
            logits, carry = self.network.step(self.table, before, carry, precision)
            return logits, carry, known
        looked_up = rows_of(self.table, before) if self.axis == ROWS else columns_of(self.table, before)
        logits, carry, known = joint.step(self.network, self.joints, looked_up, carry, known, precision, self.axis)
        return turned(logits, self.axis), carry, known


class Plan(NamedTuple):
    """How to draw: from what, with how many rows on each of how many devices."""

    ready: Arranged
    rows: int
    lanes: int


@partial(jax.jit, static_argnames="precision")
def prepare(network: Network, precision: str) -> Prepared:
    """Do once what each step would otherwise do again."""
    storage = storage_type(precision, network.head_kernel.dtype)
    ready = rounded(network, storage)
    wide = network.layers[0].hidden_size > _NARROW_LAYER
    joints = joint.join(ready) if wide and _joins(precision) else ()
    return Prepared(ready, packed(network.first_projections(precision), storage), joints)


def _joins(precision: str) -> bool:
    """In float32 a transposed matrix is summed in another order; accelerators have more rows."""
    return precision == "bfloat16" and jax.default_backend() == "cpu"


_join, _for_columns = jax.jit(joint.join), jax.jit(joint.for_columns)


def arranged(prepared: Prepared, rows: int, precision: str) -> Arranged:
    """The network for so many rows."""
    network, table, joints = prepared
    if rows >= _FEWEST_COLUMNS and _joins(precision) and (joints := joints or _join(network)):
        columns = jax.device_put(np.ascontiguousarray(np.asarray(table).T))
        return Arranged(network, columns, _for_columns(network, joints), COLUMNS)
    return Arranged(*prepared)


def rows_of_one() -> int:
    """With how many rows a single text is drawn, or read.

    On CPUs two, since a product of one row is summed in another order than one of several. On accelerators there are
    always as many, so that the same program runs.
    """
    return _ROWS[0] if jax.default_backend() == "cpu" else _ROWS[-1]


def shape_for(texts: int, prepared: Prepared, precision: str) -> tuple[int, int]:
    """With how many rows, at most, on each of how many devices it is fastest to draw so many texts."""
    lanes = lanes_for(texts, prepared, precision)
    own = -(-texts // lanes)
    return next((rows for rows in _ROWS if max(own, rows_of_one()) <= rows), _ROWS[-1]), lanes


def plan_for(shape: tuple[int, int], prepared: Prepared, precision: str) -> Plan:
    """The fastest plan up to that `shape_for` by which each text is drawn as by itself, to the bit.

    XLA's CPU products sum in an order that depends on how many rows there are, for some sizes of matrices; which
    ones is found by trying.
    """
    most, lanes = shape
    for rows in (rows for rows in reversed(_ROWS) if rows <= most):
        ready = arranged(prepared, rows, precision)
        if rows == rows_of_one() or _agree(prepared, ready, rows, precision):
            return Plan(ready, rows, lanes)
    raise AssertionError("a single text agrees with itself")


def lanes_for(texts: int, prepared: Prepared, precision: str) -> int:
    """Over how many of the CPU's devices to spread so many texts, each drawing with rows of its own.

    Where products are small, two devices are up to twice as fast as one; the large ones of bfloat16 use every
    core by themselves.
    """
    wide = precision != "float32" and prepared.network.layers[0].hidden_size > _WIDEST_LANE
    if jax.default_backend() != "cpu" or wide:
        return 1
    return max(1, min(jax.local_device_count(), texts // _FEWEST_IN_A_LANE))


def _agree(prepared: Prepared, ready: Arranged, rows: int, precision: str) -> bool:
    """Whether each of so many rows has the logits that it has when it is drawn by itself, to the bit."""
    ids = np.random.default_rng(0).integers(before_any(prepared.table) + 1, size=(_STEPS, rows), dtype=np.int32)
    together = np.asarray(_logits(ready, ids, precision))
    single = arranged(prepared, rows_of_one(), precision)
    parts = np.split(ids, rows // rows_of_one(), axis=1)
    alone = np.concatenate([np.asarray(_logits(single, part, precision)) for part in parts], 1)
    return np.array_equal(together, alone)


@partial(jax.jit, static_argnames="precision", compiler_options=COMPILER_OPTIONS)
def _logits(ready: Arranged, ids: Array, precision: str) -> Array:
    """The logits `[T, B, V]` after each of the ids `[T, B]`, from a document's start."""
    turn = partial(jax.tree.map, partial(turned, axis=ready.axis))
    carry = ready.network.initial_carry(ids.shape[1])
    known = tuple(jnp.zeros((ids.shape[1], len(one.matrix)), jnp.float32) for one in ready.joints)

    def body(state: tuple[Carry, Ahead], before: Array) -> tuple[tuple[Carry, Ahead], Array]:
        logits, carry, known = ready.step(before, *state, precision)
        return (carry, known), logits

    return lax.scan(body, (turn(carry), turn(known)), ids)[1]
