"""The update rule, and the learning rate as a function of what is spent, or of what halved it."""

import math
from typing import Any

import jax
import numpy as np
import optax

from charrnn.config import TrainingConfig
from charrnn.nn.arrays import Array
from charrnn.nn.network import Network
from charrnn.training.muon import scale_by_muon

_FIRST_SHARE_OF_PEAK = 0.01
_FINAL_SHARE_OF_PEAK = 0.01
_FINAL_SHARE_WHEN_AVERAGED = 0.4
_STEPS_WITHOUT_BUDGET = 2000
_READER = "layers.0.input_kernel"
_TIMES_FOR_THE_HEAD = 2.0
_NARROW, _UNITS_A_TIME = 256, 75.0
"""What reads a character, and the biases, learn a time as fast for every 75 units of the width (of 256 at least): at
one rate whatever the width, as the rate of the hidden matrices falls with it."""


def learning_rate(config: TrainingConfig, spent: float) -> float:
    """Linear warmup, then a cosine decay (Loshchilov & Hutter 2017).

    It ends at a hundredth of the peak, or at 0.4 of it where the weights are averaged, which calms them
    as a low rate does and learns more meanwhile. `spent` is the share of the budget used so far, 0 to 1.
    """
    assert config.learning_rate is not None
    if spent < config.warmup:
        return config.learning_rate * max(spent / config.warmup, _FIRST_SHARE_OF_PEAK)
    done = min(1.0, (spent - config.warmup) / (1 - config.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    final = _FINAL_SHARE_WHEN_AVERAGED if config.ema else _FINAL_SHARE_OF_PEAK
    return config.learning_rate * (final + (1 - final) * cosine)


def learning_rate_without_budget(config: TrainingConfig, step: int, halvings: int) -> float:
    """Linear warmup over a share of 2,000 steps, then the peak, halved so often."""
    assert config.learning_rate is not None
    risen = min(1.0, (step + 1) / max(1.0, config.warmup * _STEPS_WITHOUT_BUDGET))
    return config.learning_rate * risen * 0.5**halvings


def make_optimizer(
    name: str, weight_decay: float, clip_norm: float, precision: str = "float32", shards: int = 1
) -> optax.GradientTransformation:
    """Clip to the global norm, precondition, decay the matrices; the caller scales by -learning rate.

    That rate is for the matrices between hidden units, which sum over the width. What reads or writes a character and
    the biases learn faster, as in Yang et al. 2021 (muP); but not under SGD, whose steps have the gradient's size, nor
    with an embedding.

    precision and shards: of Muon's products, see `scale_by_muon`.
    """
    decay = optax.add_decayed_weights(weight_decay, mask=_matrices)
    adam = optax.scale_by_adam(b1=0.9, b2=0.99)
    rules = {
        "muon": optax.partition(
            {"muon": optax.chain(scale_by_muon(precision, shards), decay), "adamw": optax.chain(adam, decay)}, _rules
        ),
        "adamw": optax.chain(adam, decay),
        "adam": adam,
        "sgd": optax.trace(decay=0.9, nesterov=True),
    }
    faster = optax.identity() if name == "sgd" else optax.stateless(_faster_outside)
    return optax.chain(optax.clip_by_global_norm(clip_norm), rules[name], faster)


def _faster_outside(updates: Network, _: optax.Params | None) -> Network:
    if updates.embedding is not None:  # of a large alphabet most characters are rare, and were learnt by heart
        return updates
    width = updates.layers[0].hidden_size

    def faster(path: tuple[Any, ...], update: Array) -> Array:
        name = _name(path)
        if "head_kernel" in name:
            return np.float32(_TIMES_FOR_THE_HEAD) * update
        if "bias" in name or name.startswith(_READER):
            return np.float32(max(width, _NARROW) / _UNITS_A_TIME) * update
        return update

    return jax.tree.map_with_path(faster, updates)


def _rules(parameters: optax.Params) -> optax.Params:
    """Muon for the matrices between hidden units; AdamW for vectors and for what reads or writes characters."""
    return jax.tree.map_with_path(lambda path, array: "muon" if _is_hidden(path, array) else "adamw", parameters)


def _is_hidden(path: tuple[Any, ...], array: Any) -> bool:
    """Whether this is a matrix between hidden units."""
    name = _name(path)
    return array.ndim == 2 and name.startswith("layers.") and not name.startswith(_READER)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _matrices(parameters: optax.Params) -> optax.Params:
    """True for weight matrices: biases are not decayed."""
    return jax.tree.map(lambda array: array.ndim > 1, parameters)
