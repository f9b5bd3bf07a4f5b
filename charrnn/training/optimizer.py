"""The update rule, and the learning rate as a function of what is spent, or of what halved it."""

import math
from typing import Any

import jax
import optax

from charrnn.config import TrainingConfig
from charrnn.training.muon import scale_by_muon

_FIRST_SHARE_OF_PEAK = 0.01
_FINAL_SHARE_OF_PEAK = 0.01
_FINAL_SHARE_WHEN_AVERAGED = 0.4
_STEPS_WITHOUT_BUDGET = 2000


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
    return optax.chain(optax.clip_by_global_norm(clip_norm), rules[name])


def _rules(parameters: optax.Params) -> optax.Params:
    """Muon for the matrices between hidden units; AdamW for vectors and for what reads or writes characters."""

    def rule(path: tuple[Any, ...], array: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        hidden = name.startswith("layers.") and not name.startswith("layers.0.input_kernel")
        return "muon" if hidden and array.ndim == 2 else "adamw"

    return jax.tree.map_with_path(rule, parameters)


def _matrices(parameters: optax.Params) -> optax.Params:
    """True for weight matrices: biases are not decayed."""
    return jax.tree.map(lambda array: array.ndim > 1, parameters)
