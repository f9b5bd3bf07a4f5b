"""The update rule, and the learning rate as a function of the share of the budget that is spent."""

import math

import jax
import optax

from charrnn.config import TrainingConfig

_FINAL_SHARE_OF_PEAK = 0.01


def learning_rate(config: TrainingConfig, spent: float) -> float:
    """Linear warmup, then a cosine decay to a hundredth of the peak (Loshchilov & Hutter 2017).

    `spent` is the share of the budget used so far, 0 to 1.
    """
    assert config.learning_rate is not None
    if spent < config.warmup:
        return config.learning_rate * max(spent / config.warmup, _FINAL_SHARE_OF_PEAK)
    done = min(1.0, (spent - config.warmup) / (1 - config.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (_FINAL_SHARE_OF_PEAK + (1 - _FINAL_SHARE_OF_PEAK) * cosine)


def make_optimizer(name: str, weight_decay: float, clip_norm: float) -> optax.GradientTransformation:
    """Clip to the global norm, precondition, decay the matrices; the caller scales by -learning rate."""
    rules = {
        "adamw": lambda: optax.chain(
            optax.scale_by_adam(b1=0.9, b2=0.99), optax.add_decayed_weights(weight_decay, mask=_matrices)
        ),
        "adam": lambda: optax.scale_by_adam(b1=0.9, b2=0.99),
        "sgd": lambda: optax.trace(decay=0.9, nesterov=True),
    }
    return optax.chain(optax.clip_by_global_norm(clip_norm), rules[name]())


def _matrices(parameters: optax.Params) -> optax.Params:
    """True for weight matrices: biases are not decayed."""
    return jax.tree.map(lambda array: array.ndim > 1, parameters)
