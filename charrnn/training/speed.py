"""How fast this machine trains: what `--size auto` goes by when the budget is in minutes.

Two things are measured, in under a second: what a step of a scan costs however small it is, and how fast a product of
the training's kind is. The best that was ever measured is remembered, since the machine may be busy at the time.
"""

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax

from charrnn.config import Precision
from charrnn.nn.arrays import Array, product
from charrnn.text.cache import usable_cache_folder

_ROWS, _WIDTH = 1024, 512
_STEPS, _SMALL = 256, 32
_SECONDS, _AGAIN_SECONDS = 0.25, 0.05
_MUCH_FASTER = 1.25
_SCANS_A_STEP, _SHARE_REACHED = 30, 0.5
"""A step of training is many operations, forward and back, and reaches a share of the large product's speed.

Within a third of what 1x128 to 1x768 measured on a CPU of 2 cores (`benchmarks/results/sizes_speed.json`).
"""


@dataclass(frozen=True)
class Speed:
    """step: seconds of a scan's step that does next to nothing. products: floating-point operations a second."""

    step: float
    products: float

    def characters_a_second(self, weights: int, batch_size: int, num_layers: int = 1) -> float:
        """What training a network comes to that multiplies a character by so many `weights`.

        Forward, backward and the weights' gradient are 6 operations for each weight and character.
        """
        operations = 6 * weights * batch_size
        a_step = _SCANS_A_STEP * num_layers * self.step + operations / (_SHARE_REACHED * self.products)
        return batch_size / a_step


def speed_of_this_machine(precision: Precision) -> Speed:
    """The best ever measured of this machine, its devices, version of JAX and precision, kept in the cache folder.

    It is measured each time, more briefly once it is known. What is known is replaced only by what is much faster, so
    that the same command makes the same network again.
    """
    kept = usable_cache_folder() / "speed.json"
    devices = jax.local_devices()
    name = f"{platform.node()}, {len(devices)} {devices[0].device_kind}, jax {jax.__version__}, {precision}"
    known = _read(kept)
    seconds = _AGAIN_SECONDS if name in known else _SECONDS
    now = Speed(_time_of_a_step(seconds), _speed_of_products(precision, seconds))
    best = known.get(name, now)
    if name not in known or now.products > _MUCH_FASTER * best.products or best.step > _MUCH_FASTER * now.step:
        known[name] = Speed(min(best.step, now.step), max(best.products, now.products))
        _write(kept, known)
    return known[name]


def _read(path: Path) -> dict[str, Speed]:
    try:
        return {name: Speed(**numbers) for name, numbers in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or not ours: it is measured anew
        return {}


def _write(path: Path, known: dict[str, Speed]) -> None:
    content = json.dumps({name: asdict(speed) for name, speed in known.items()}, indent=1)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # then the next run measures again
        partial.write_text(content, "utf-8")
        partial.replace(path)


def _time_of_a_step(seconds: float) -> float:
    kernel, rows = jnp.full((_SMALL, _SMALL), 0.1), jnp.ones((_SMALL, _SMALL))

    @jax.jit
    def scan(rows: Array) -> Array:
        return lax.fori_loop(0, _STEPS, lambda _, rows: jnp.tanh(rows @ kernel), rows)

    return _least_time(seconds, scan, rows) / _STEPS


def _speed_of_products(precision: Precision, seconds: float) -> float:
    type_ = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    rows, kernel = jnp.ones((_ROWS, _WIDTH), type_), jnp.ones((_WIDTH, 4 * _WIDTH), type_)
    return (
        2
        * rows.size
        * kernel.shape[1]
        / _least_time(seconds, jax.jit(partial(product, precision=precision)), rows, kernel)
    )


def _least_time(seconds: float, function: Callable[..., Array], *arguments: Array) -> float:
    """What the quickest call of so many `seconds` of calls took, after one that compiles."""
    jax.block_until_ready(function(*arguments))
    best, until = math.inf, time.perf_counter() + seconds
    while (started := time.perf_counter()) < until or best == math.inf:
        jax.block_until_ready(function(*arguments))
        best = min(best, time.perf_counter() - started)
    return best
