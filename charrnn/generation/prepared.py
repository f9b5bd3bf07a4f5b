"""A network made ready for many single steps, and with how many rows on how many devices texts are drawn."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from charrnn.nn import joint
from charrnn.nn.arrays import Array, packed, storage_type
from charrnn.nn.joint import Joint
from charrnn.nn.layout import COLUMNS, ROWS
from charrnn.nn.network import Network, exact_kernels, rounded

_ROWS = {"float32": (2, 16), "bfloat16": (2, 4, 16, 32, 64)}

_WIDEST_LANE, _FEWEST_IN_A_LANE = 448, 32
"""Units of a layer and texts with which it pays to spread texts over devices."""

_NARROW_LAYER = 256
"""Up to so many units joint products of few rows are no faster."""

_FEWEST_COLUMNS = 32
"""With so many rows states as columns are faster."""


class Prepared(NamedTuple):
    """A network made ready for many single steps.

    network: its matrices rounded to the precision. table: `first_projections`, `packed`, `[V + 1, G*H]`, or
    `[G*H, V + 1]` for columns. joints: the matrices side by side where that is faster, else none.
    """

    network: Network
    table: Array
    joints: tuple[Joint, ...] = ()


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


_join = jax.jit(joint.join)


def arranged(prepared: Prepared, rows: int, precision: str) -> Prepared:
    """The network as `decode.draw` takes it for so many rows; it draws the same, to the bit."""
    if rows < _FEWEST_COLUMNS or not _joins(precision):
        return prepared
    joints = prepared.joints or _join(prepared.network)
    if not joints:
        return prepared
    table: Any = np.ascontiguousarray(np.asarray(prepared.table).T)
    return prepared._replace(joints=joints, table=table)


def axis_for(prepared: Prepared, rows: int) -> int:
    """In which layout the states of so many rows are, by what was `arranged`."""
    return COLUMNS if prepared.joints and rows >= _FEWEST_COLUMNS else ROWS


def slots_for(texts: int, prepared: Prepared, precision: str) -> int:
    """How many rows to draw so many texts with, on one device.

    One of few numbers, since each is a program to compile. A row's logits must not depend on how many there
    are. On accelerators there are always as many, so that the same program runs. On CPUs a product of one row is
    summed in another order than one of several, and float32 products of more than 16 rows in several orders by
    their shapes; from 2 rows to 16, and from 2 on in bfloat16, all agree to the bit. (Measured with XLA of JAX
    0.10; a test holds it.)
    """
    if jax.default_backend() != "cpu":
        return 64
    mixed = precision == "bfloat16" and exact_kernels(prepared.network)
    choice = _ROWS["float32" if mixed else precision]
    return next((rows for rows in choice if texts <= rows), choice[-1])


def lanes_for(texts: int, prepared: Prepared, precision: str) -> int:
    """Over how many of the CPU's devices to spread so many texts, each drawing with rows of its own.

    Where products are small, two devices are up to twice as fast as one; the large ones of bfloat16 use every
    core by themselves.
    """
    wide = precision != "float32" and prepared.network.layers[0].hidden_size > _WIDEST_LANE
    if jax.default_backend() != "cpu" or wide:
        return 1
    return max(1, min(jax.local_device_count(), texts // _FEWEST_IN_A_LANE))
