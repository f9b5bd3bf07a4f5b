"""The linear recurrence h_t = a_t * h_{t-1} + b_t, all steps at once or one by one."""

import jax
import jax.numpy as jnp
from jax import lax

from charrnn.nn.arrays import Array


@jax.custom_vjp
def linear_scan(a: Array, b: Array, initial: Array) -> Array:
    """Every `h` of the recurrence, `[T, B, H]`, from `a` and `b` `[T, B, H]` and `h` before them `[B, H]`.

    On CPUs the steps are taken one by one, since an associative scan passes over memory more often;
    elsewhere all at once (Martin & Cundy 2018).
    """
    return lax.platform_dependent(a, b, initial, cpu=sequential, default=parallel)


def sequential(a: Array, b: Array, initial: Array) -> Array:
    """The recurrence step by step."""

    def body(h: Array, here: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = here
        h = a * h + b
        return h, h

    return lax.scan(body, initial, (a, b))[1]


def parallel(a: Array, b: Array, initial: Array) -> Array:
    """The recurrence as an associative scan over the maps h -> a * h + b."""

    def compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        return then[0] * first[0], then[0] * first[1] + then[1]

    b = jnp.concatenate([(a[0] * initial + b[0])[None], b[1:]])
    return lax.associative_scan(compose, (a, b))[1]


def _forward(a: Array, b: Array, initial: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    outputs = linear_scan(a, b, initial)
    return outputs, (a, outputs, initial)


def _backward(residuals: tuple[Array, Array, Array], gradients: Array) -> tuple[Array, Array, Array]:
    """The gradient of h obeys the same recurrence, backwards: dh_t = a_{t+1} * dh_{t+1} + g_t."""
    a, outputs, initial = residuals
    later = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    totals = linear_scan(later[::-1], gradients[::-1], jnp.zeros_like(initial))[::-1]
    before = jnp.concatenate([initial[None], outputs[:-1]])
    return totals * before, totals, totals[0] * a[0]


linear_scan.defvjp(_forward, _backward)
