"""Any cell over time, in one scan each way.

The input's products are done before the scan, all steps at once, and so are the weights' gradients
after it: the backward scan emits only the gradients of the products' results (autodiff of `lax.scan`
would add into the weights' gradient at every step). The forward scan keeps those results, rounded as
the precision says, and the states; the backward scan replays a step from them, without its products,
and differentiates that.

What a scan reads comes in blocks, an array a gate: a slice of a slice, at a time that the loop counts, is
read anew for every number, and XLA's CPU compiler makes no vector instructions of such a loop.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from charrnn.nn.arrays import (
    Array,
    Blocks,
    State,
    in_memory,
    joined,
    kernel_gradient,
    packed,
    product,
    storage_type,
    unpacked,
)
from charrnn.nn.cells import Cell, Kernel, LinearCell
from charrnn.nn.linear import linear_scan

_LONGEST_SUM = 1024
"""XLA's CPU product of few rows in bfloat16 takes twice as long when more terms than this make one sum."""


class Weights(NamedTuple):
    """A cell's own weights by name: matrices as its `kernels` say, and vectors `[D]`."""

    kernels: dict[str, Array]
    vectors: dict[str, Array]


def step(cell: Cell, weights: Weights, inputs: Array, state: State, precision: str) -> tuple[State, dict[str, Blocks]]:
    """One step of a cell.

    inputs: the input's product with its bias `[B, input_gates * H]`, or the input itself `[B, E]`
    where the cell has no input gates. Returns the new state and each kernel's result, blocks `[B, H]`.
    """
    return _step(cell, weights, blocks_of(cell, inputs), state, precision)


def blocks_of(cell: Cell, inputs: Array) -> Blocks:
    """Inputs as `step` has them: a block `[..., H]` a gate, or the input itself where the cell has no input gates."""
    return tuple(jnp.split(inputs, cell.input_gates or 1, -1))


def _step(
    cell: Cell, weights: Weights, inputs: Blocks, state: State, precision: str
) -> tuple[State, dict[str, Blocks]]:
    kernels, results = _kernels(cell, inputs[0], state), dict[str, Blocks]()
    added, x = _shares(kernels, tuple(block.astype(state[0].dtype) for block in inputs))

    def multiply(name: str, operand: Array) -> Blocks:
        blocks = _split(product(operand, weights.kernels[name], kernels[name].precision(precision)), kernels[name])
        seen = tuple(x + block for x, block in zip(added[name], blocks, strict=False))
        results[name] = seen + blocks[len(seen) :]
        return results[name]

    return cell.step(multiply, x, _by_row(weights.vectors, inputs[0]), state), results


def run(
    cell: Cell, weights: Weights, inputs: Blocks, state: State, resets: Array, precision: str
) -> tuple[Array, State]:
    """Run a cell over a window.

    inputs: as `blocks_of` gives them, `[T, B, H]` each, or one `[T, B, E]`. state: before the window,
    parts `[B, H]`. resets: `[T, B]` bool, where the state is set to zero before the step. Returns the
    outputs `[T, B, H]` and the state after the window.
    """
    if isinstance(cell, LinearCell):
        return _run_linear(cell, inputs, state, resets)
    return _run(cell, precision, weights, inputs, state, resets)


def _run_linear(cell: LinearCell, inputs: Blocks, state: State, resets: Array) -> tuple[Array, State]:
    (h,) = state
    kept, added = cell.coefficients(tuple(block.astype(h.dtype) for block in inputs))
    outputs = linear_scan(jnp.where(resets[..., None], jnp.zeros((), h.dtype), kept), added, h)
    return outputs, (outputs[-1],)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(
    cell: Cell, precision: str, weights: Weights, inputs: Blocks, state: State, resets: Array
) -> tuple[Array, State]:
    return _forward(cell, precision, weights, inputs, state, resets)[0]


def _forward(
    cell: Cell, precision: str, weights: Weights, inputs: Blocks, state: State, resets: Array
) -> tuple[tuple[Array, State], Any]:
    kernels, type_ = _kernels(cell, inputs[0], state), inputs[0].dtype
    rounded, types = _rounded(weights, kernels, precision), _types(weights, kernels, precision)

    def body(state: State, here: tuple[Blocks, Array]) -> tuple[State, tuple]:
        bits, reset = here
        x = tuple(unpacked(block, type_) for block in bits)
        state, results = _step(cell, rounded, x, _reset(state, reset), precision)
        return state, (state, _keep(results, types))

    steps = (tuple(packed(block, type_) for block in inputs), resets)
    final, (states, kept) = _scan(body, state, steps, like=inputs[0])
    return (states[0], final), (weights, inputs, state, resets, states, kept)


def _backward(cell: Cell, precision: str, residuals: Any, gradients: tuple[Array, State]) -> tuple:
    weights, inputs, initial, resets, states, kept = residuals
    output_gradients, final_gradient = gradients
    before = tuple(jnp.concatenate([first[None], rest[:-1]]) for first, rest in zip(initial, states, strict=True))
    kernels, type_ = _kernels(cell, inputs[0], initial), inputs[0].dtype
    rounded, storage = _rounded(weights, kernels, precision), storage_type(precision, type_)
    types = _types(weights, kernels, precision)
    shared = sum(kernel.inputs for kernel in kernels.values())
    transposed = {name: in_memory(kernel.T) for name, kernel in rounded.kernels.items()}

    def body(carry: tuple[State, dict[str, Array]], here: tuple) -> tuple[tuple, tuple]:
        state_gradient, vector_gradients = carry
        bits, kept, before, output_gradient, reset = here
        x = tuple(unpacked(block, type_) for block in bits)
        results = _recall(kept, types, state_gradient[0].dtype)
        later = (state_gradient[0] + output_gradient, *state_gradient[1:])
        replay = partial(_replay, cell, transposed, precision)
        vectors = _by_row(rounded.vectors, before[0])
        _, vjp, _ = jax.vjp(replay, results, x, vectors, _reset(before, reset), has_aux=True)
        result_gradients, input_gradient, more, gradient = vjp(later)
        emitted = {
            name: jnp.concatenate([packed(block, types[name]) for block in blocks], -1)
            for name, blocks in result_gradients.items()
        }
        vector_gradients = jax.tree.map(jnp.add, vector_gradients, more)
        free = tuple(packed(block, storage) for block in input_gradient[shared:])
        return (_reset(gradient, reset), vector_gradients), (emitted, free)

    nothing = jax.tree.map(jnp.zeros_like, _by_row(weights.vectors, initial[0]))
    steps = (tuple(packed(block, type_) for block in inputs), kept, before, output_gradients, resets)
    (initial_gradient, vector_gradients), (emitted, free) = _scan(
        body, (final_gradient, nothing), steps, like=output_gradients, reverse=True
    )
    whole = {name: unpacked(bits, types[name]) for name, bits in emitted.items()}
    results = _recall(kept, types, initial[0].dtype)
    kernel_gradients = _kernel_gradients(cell, weights, results, inputs, _reset(before, resets), whole, precision)
    added = [
        unpacked(bits, types[name])
        for name, kernel in kernels.items()
        for bits in _split(emitted[name], kernel)[: kernel.inputs]
    ]
    input_gradients = (*added, *(unpacked(bits, storage) for bits in free))
    summed = {name: gradient.sum(0) for name, gradient in vector_gradients.items()}
    weight_gradients = Weights(kernel_gradients, summed)
    return weight_gradients, tuple(block.astype(type_) for block in input_gradients), initial_gradient, None


_run.defvjp(_forward, _backward)


def _replay(
    cell: Cell,
    transposed: dict[str, Array],
    precision: str,
    results: dict[str, Blocks],
    inputs: Blocks,
    vectors: dict[str, Array],
    state: State,
) -> tuple[State, dict[str, Array]]:
    """A step whose products are known: the new state, and what each kernel was multiplied with."""
    operands, shapes = dict[str, Array](), _kernels(cell, inputs[0], state)

    def known(name: str, operand: Array) -> Blocks:
        operands[name] = operand
        return _known_product(shapes[name].precision(precision), operand, transposed[name], results[name])

    _, x = _shares(shapes, tuple(block.astype(state[0].dtype) for block in inputs))
    return cell.step(known, x, vectors, state), operands


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _known_product(precision: str, operand: Array, transposed: Array, blocks: Blocks) -> Blocks:
    """The blocks of a product that was made before; their gradient passes to them and to the operand.

    transposed: the product's matrix, `[sum(blocks), rows]`.
    """
    return blocks


def _known_product_backward(
    precision: str, residuals: tuple[Array, Array], gradients: Blocks
) -> tuple[Array, None, Blocks]:
    operand, transposed = residuals
    gradient = joined(tuple(block.astype(storage_type(precision, block.dtype)) for block in gradients))
    most = _LONGEST_SUM if precision == "bfloat16" else gradient.shape[-1]
    starts = range(0, gradient.shape[-1], most)
    first, *others = (product(gradient[:, k : k + most], transposed[k : k + most], precision) for k in starts)
    through = sum(others, first)
    return through.astype(operand.dtype), None, gradients


_known_product.defvjp(
    lambda precision, operand, transposed, blocks: (blocks, (operand, transposed)), _known_product_backward
)


def _scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, steps: Any, *, like: Array, reverse: bool = False
) -> tuple[Any, Any]:
    """`lax.scan`, whose outputs' buffers begin as numbers of `like [T, ...]`.

    Those of `lax.scan` begin as zeros: XLA's CPU compiler makes one block of them when a program starts, keeps
    it until the last loop, and copies it for every loop.
    """
    length, numbers = len(like), like.reshape(-1)

    def at(t: Array) -> Any:
        return jax.tree.map(lambda whole: lax.dynamic_index_in_dim(whole, t, 0, keepdims=False), steps)

    def step(k: Array, loop: tuple[Any, Any]) -> tuple[Any, Any]:
        t = length - 1 - k if reverse else k
        carry, outputs = loop
        carry, here = body(carry, at(t))
        return carry, jax.tree.map(lambda whole, one: lax.dynamic_update_index_in_dim(whole, one, t, 0), outputs, here)

    shapes, structure = jax.tree.flatten(jax.eval_shape(lambda carry: body(carry, at(jnp.int32(0)))[1], carry))
    buffers = [jnp.broadcast_to(numbers[k].astype(one.dtype), (length, *one.shape)) for k, one in enumerate(shapes)]
    return lax.fori_loop(0, length, step, (carry, jax.tree.unflatten(structure, buffers)))


def _kernel_gradients(
    cell: Cell,
    weights: Weights,
    results: dict[str, Blocks],
    inputs: Blocks,
    before: State,
    emitted: dict[str, Array],
    precision: str,
) -> dict[str, Array]:
    """The matrices' gradients over the whole window, one product each."""
    vectors = {
        name: jnp.broadcast_to(vector, (*before[0].shape[:-1], *vector.shape))
        for name, vector in weights.vectors.items()
    }
    _, operands = _replay(cell, weights.kernels, precision, results, inputs, vectors, before)
    gradients, kernels = {}, _kernels(cell, inputs[0], before)
    for name, kernel in weights.kernels.items():
        gradient = kernel_gradient(operands[name], emitted[name], kernels[name].precision(precision))
        gradients[name] = gradient.astype(kernel.dtype)
    return gradients


def _kernels(cell: Cell, inputs: Array, state: State) -> dict[str, Kernel]:
    return cell.kernels(inputs.shape[-1], state[0].shape[-1])


def _shares(kernels: dict[str, Kernel], blocks: Blocks) -> tuple[dict[str, Blocks], tuple[Array, ...]]:
    """The inputs' blocks: those added to each kernel's product, and those the step is given."""
    added = {}
    for name, kernel in kernels.items():
        added[name], blocks = blocks[: kernel.inputs], blocks[kernel.inputs :]
    return added, blocks


def _split(values: Array, kernel: Kernel) -> Blocks:
    ends = [sum(kernel.blocks[: k + 1]) for k in range(len(kernel.blocks) - 1)]
    return tuple(jnp.split(values, ends, -1))


def _by_row(vectors: dict[str, Array], rows: Array) -> dict[str, Array]:
    return {name: jnp.broadcast_to(vector, (rows.shape[0], *vector.shape)) for name, vector in vectors.items()}


def _rounded(weights: Weights, kernels: dict[str, Kernel], precision: str) -> Weights:
    """The matrices as products take them, rounded once here rather than at every step."""
    types = _types(weights, kernels, precision)
    return weights._replace(kernels={name: weights.kernels[name].astype(types[name]) for name in kernels})


def _types(weights: Weights, kernels: dict[str, Kernel], precision: str) -> dict[str, jnp.dtype]:
    """In which type each kernel's operands, results and their gradients are kept."""
    return {name: storage_type(kernels[name].precision(precision), weights.kernels[name].dtype) for name in kernels}


def _keep(results: dict[str, Blocks], types: dict[str, jnp.dtype]) -> dict[str, Blocks]:
    return {name: tuple(packed(block, types[name]) for block in blocks) for name, blocks in results.items()}


def _recall(kept: dict[str, Blocks], types: dict[str, jnp.dtype], type_: jnp.dtype) -> dict[str, Blocks]:
    return {
        name: tuple(unpacked(block, types[name]).astype(type_) for block in blocks) for name, blocks in kept.items()
    }


def _reset(state: State, resets: Array) -> State:
    """The state, zero where a document starts."""
    return tuple(jnp.where(resets[..., None], jnp.zeros((), part.dtype), part) for part in state)
