"""Any cell over time, in one scan each way.

The input's products are done before the scan, all steps at once, and so are the weights' gradients
after it: the backward scan emits only the gradients of the products' results (autodiff of `lax.scan`
would add into the weights' gradient at every step). The forward scan keeps those results, rounded as
the precision says, and the states; the backward scan replays a step from them, without its products,
and differentiates that.

What a scan reads comes in blocks, an array a gate: a slice of a slice, at a time that the loop counts, is
read anew for every number, and XLA's CPU compiler makes no vector instructions of such a loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from charrnn.nn import layout
from charrnn.nn.arrays import Array, Blocks, State, kernel_gradient, look_up_gradient, packed, storage_type, unpacked
from charrnn.nn.cells import Cell, Kernel, LinearCell
from charrnn.nn.layout import COLUMNS, ROWS, turned
from charrnn.nn.linear import linear_scan


class LookUp(NamedTuple):
    """Inputs that are rows of a table `[V, input_gates * H]` (or `[V, E]`) by id, `[T, B]`."""

    table: Array
    ids: Array


Inputs = Blocks | LookUp
"""A window's inputs: as `blocks_of` gives them, `[T, B, H]` each, or one `[T, B, E]`; or what to look up for them."""


class Weights(NamedTuple):
    """A cell's own weights by name: matrices as its `kernels` say, and vectors `[D]`."""

    kernels: dict[str, Array]
    vectors: dict[str, Array]


def step(
    cell: Cell,
    weights: Weights,
    inputs: Array,
    state: State,
    precision: str,
    known: Mapping[str, Array] | None = None,
    axis: int = ROWS,
) -> tuple[State, dict[str, Blocks]]:
    """One step of a cell.

    inputs: the input's product with its bias `[B, input_gates * H]`, or the input itself `[B, E]`
    where the cell has no input gates. known: products by name that were made before. With columns all
    of these are columns, and matrices turned. Returns the new state and each kernel's result, blocks `[B, H]`.
    """
    return _step(cell, weights, blocks_of(cell, inputs, axis), state, precision, axis, known or {})


def blocks_of(cell: Cell, inputs: Array, axis: int = ROWS) -> Blocks:
    """Inputs as `step` has them: a block `[..., H]` a gate, or the input itself where the cell has no input gates."""
    return tuple(jnp.split(inputs, cell.input_gates or 1, axis))


def _step(
    cell: Cell,
    factors: Weights,
    inputs: Blocks,
    state: State,
    precision: str,
    axis: int,
    known: Mapping[str, Array],
) -> tuple[State, dict[str, Blocks]]:
    """`step` in either layout; factors: the weights, each kernel as `layout.forward_factor`."""
    kernels, results = _kernels(cell, inputs[0], state, axis), dict[str, Blocks]()
    added, x = _shares(kernels, tuple(block.astype(state[0].dtype) for block in inputs))

    def multiply(name: str, operand: Array) -> Blocks:
        whole = known.get(name)
        if whole is None:
            whole = layout.multiplied(operand, factors.kernels[name], kernels[name].precision(precision), axis)
        blocks = layout.split(whole, kernels[name], axis)
        seen = tuple(x + block for x, block in zip(added[name], blocks, strict=False))
        results[name] = seen + blocks[len(seen) :]
        return results[name]

    return cell.step(multiply, x, layout.spread(factors.vectors, inputs[0], axis), state), results


def run(
    cell: Cell, weights: Weights, inputs: Inputs, state: State, resets: Array, precision: str
) -> tuple[Array, State]:
    """Run a cell over a window.

    state: before the window, parts `[B, H]`. resets: `[T, B]` bool, where the state is set to zero before
    the step. Returns the outputs `[T, B, H]` and the state after the window.
    """
    if isinstance(cell, LinearCell):
        return _run_linear(cell, _blocks(cell, inputs, ROWS), state, resets)
    axis = layout.axis_for(cell, state[0])
    return _run(cell, precision, axis, weights, inputs, state, resets)


def _run_linear(cell: LinearCell, inputs: Blocks, state: State, resets: Array) -> tuple[Array, State]:
    (h,) = state
    kept, added = cell.coefficients(tuple(block.astype(h.dtype) for block in inputs))
    outputs = linear_scan(jnp.where(resets[..., None], jnp.zeros((), h.dtype), kept), added, h)
    return outputs, (outputs[-1],)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(
    cell: Cell, precision: str, axis: int, weights: Weights, inputs: Inputs, state: State, resets: Array
) -> tuple[Array, State]:
    return _forward(cell, precision, axis, weights, inputs, state, resets)[0]


def _forward(
    cell: Cell, precision: str, axis: int, weights: Weights, inputs: Inputs, state: State, resets: Array
) -> tuple[tuple[Array, State], Any]:
    blocks, initial = _blocks(cell, inputs, axis), jax.tree.map(partial(turned, axis=axis), state)
    kernels, type_ = _kernels(cell, blocks[0], initial, axis), blocks[0].dtype
    rounded, types = _rounded(weights, kernels, precision), _types(weights, kernels, precision)
    factors = rounded._replace(
        kernels={name: layout.forward_factor(kernel, axis) for name, kernel in rounded.kernels.items()}
    )

    def body(state: State, here: tuple[Blocks, Array]) -> tuple[State, tuple]:
        bits, reset = here
        x = tuple(unpacked(block, type_) for block in bits)
        state, results = _step(cell, factors, x, _reset(state, reset, axis), precision, axis, {})
        return state, (state, _keep(results, types))

    steps = (tuple(packed(block, type_) for block in blocks), resets)
    final, (states, kept) = _scan(body, initial, steps, like=blocks[0])
    after = jax.tree.map(partial(turned, axis=axis), (states[0], final))
    source = inputs if isinstance(inputs, LookUp) else None
    return after, (weights, source, blocks, initial, resets, states, kept)


def _backward(cell: Cell, precision: str, axis: int, residuals: Any, gradients: tuple[Array, State]) -> tuple:
    weights, source, inputs, initial, resets, states, kept = residuals
    before = tuple(jnp.concatenate([first[None], rest[:-1]]) for first, rest in zip(initial, states, strict=True))
    kernels = _kernels(cell, inputs[0], initial, axis)
    rounded, types = _rounded(weights, kernels, precision), _types(weights, kernels, precision)
    replay = _Replay(cell, precision, axis, {
        name: layout.backward_factors(kernel, kernels[name], axis) for name, kernel in rounded.kernels.items()
    })  # fmt: skip
    output_gradients, final_gradient = jax.tree.map(partial(turned, axis=axis), gradients)
    steps = (inputs, kept, before, output_gradients, resets)
    (of_state, of_vectors), (emitted, free) = _steps_back(replay, rounded.vectors, types, steps, final_gradient)

    of_results = {name: turned(unpacked(bits, types[name]), axis) for name, bits in emitted.items()}
    vectors = layout.spread(weights.vectors, before[0], axis)
    _, operands = replay(_recall(kept, types, initial[0].dtype), inputs, vectors, _reset(before, resets, axis))
    of_weights = Weights(
        _kernel_gradients(weights, kernels, operands, of_results, precision, axis),
        {name: layout.over_rows(gradient, axis) for name, gradient in of_vectors.items()},
    )
    added = [
        unpacked(bits, types[name])
        for name, kernel in kernels.items()
        for bits in layout.split(packed(of_results[name], types[name]), kernel, ROWS)[: kernel.inputs]
    ]
    of_inputs = (*added, *(turned(block, axis) for block in free))
    of_blocks = tuple(block.astype(inputs[0].dtype) for block in of_inputs)
    of_initial = jax.tree.map(partial(turned, axis=axis), of_state)
    if source is None:
        return of_weights, of_blocks, of_initial, None
    of_table = look_up_gradient(source.table, source.ids, of_blocks)
    return of_weights, LookUp(of_table, None), of_initial, None  # type: ignore[arg-type] # ids have no gradient


def _steps_back(
    replay: "_Replay", vectors: dict[str, Array], types: dict[str, jnp.dtype], steps: tuple, final_gradient: State
) -> tuple:
    """The steps from the last to the first, each a `replay` differentiated.

    steps: inputs, kept results, states before, gradients of the outputs, resets. Returns the gradients of the
    initial state and of each copy of the vectors; and of all steps those of the kernels' results, packed,
    and of the inputs' blocks that are added to no result.
    """
    inputs, kept, before, output_gradients, resets = steps
    shared = sum(kernel.inputs for kernel in _kernels(replay.cell, inputs[0], before, replay.axis).values())
    axis, type_, storage = replay.axis, inputs[0].dtype, storage_type(replay.precision, inputs[0].dtype)
    spread = layout.spread(vectors, before[0][0], axis)

    def body(carry: tuple[State, dict[str, Array]], here: tuple) -> tuple[tuple, tuple]:
        state_gradient, vector_gradients = carry
        bits, kept, before, output_gradient, reset = here
        x = tuple(unpacked(block, type_) for block in bits)
        results = _recall(kept, types, state_gradient[0].dtype)
        later = (state_gradient[0] + output_gradient, *state_gradient[1:])
        _, vjp, _ = jax.vjp(replay, results, x, spread, _reset(before, reset, axis), has_aux=True)
        result_gradients, input_gradient, more, gradient = vjp(later)
        emitted = {
            name: jnp.concatenate([packed(block, types[name]) for block in blocks], axis)
            for name, blocks in result_gradients.items()
        }
        vector_gradients = jax.tree.map(jnp.add, vector_gradients, more)
        free = tuple(packed(block, storage) for block in input_gradient[shared:])
        return (_reset(gradient, reset, axis), vector_gradients), (emitted, free)

    bits = tuple(packed(block, type_) for block in inputs)
    first, (emitted, free) = _scan(
        body,
        (final_gradient, jax.tree.map(jnp.zeros_like, spread)),
        (bits, kept, before, output_gradients, resets),
        like=output_gradients,
        reverse=True,
    )
    return first, (emitted, tuple(unpacked(block, storage) for block in free))


_run.defvjp(_forward, _backward)


@dataclass(frozen=True)
class _Replay:
    """A step, or all of a window, whose products are known; factors: each kernel as `layout.backward_factors`."""

    cell: Cell
    precision: str
    axis: int
    factors: dict[str, Blocks]

    def __call__(
        self, results: dict[str, Blocks], inputs: Blocks, vectors: dict[str, Array], state: State
    ) -> tuple[State, dict[str, Array]]:
        """The new state, and what each kernel was multiplied with."""
        operands, kernels = dict[str, Array](), _kernels(self.cell, inputs[0], state, self.axis)

        def known(name: str, operand: Array) -> Blocks:
            operands[name] = operand
            precision = kernels[name].precision(self.precision)
            return _known_product(precision, self.axis, operand, self.factors[name], results[name])

        _, x = _shares(kernels, tuple(block.astype(state[0].dtype) for block in inputs))
        return self.cell.step(known, x, vectors, state), operands


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _known_product(precision: str, axis: int, operand: Array, factors: Blocks, blocks: Blocks) -> Blocks:
    """The blocks of a product that was made before; their gradient passes to them and to the operand."""
    return blocks


def _known_product_backward(
    precision: str, axis: int, residuals: tuple[Array, Blocks], gradients: Blocks
) -> tuple[Array, None, Blocks]:
    operand, factors = residuals
    through = layout.passed_through(gradients, factors, precision, axis)
    return through.astype(operand.dtype), None, gradients


_known_product.defvjp(
    lambda precision, axis, operand, factors, blocks: (blocks, (operand, factors)), _known_product_backward
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
    weights: Weights,
    kernels: dict[str, Kernel],
    operands: dict[str, Array],
    of_results: dict[str, Array],
    precision: str,
    axis: int,
) -> dict[str, Array]:
    """The matrices' gradients over the whole window, one product each."""
    gradients = {}
    for name, kernel in weights.kernels.items():
        format_ = kernels[name].precision(precision)
        gradient = kernel_gradient(operands[name], of_results[name], format_, axis == COLUMNS)
        gradients[name] = gradient.astype(kernel.dtype)
    return gradients


def _blocks(cell: Cell, inputs: Inputs, axis: int) -> Blocks:
    """The inputs' blocks in this layout."""
    if isinstance(inputs, LookUp):
        return layout.looked_up(*inputs, cell.input_gates or 1, axis)
    return tuple(turned(block, axis) for block in inputs)


def _kernels(cell: Cell, inputs: Array, state: State, axis: int) -> dict[str, Kernel]:
    return cell.kernels(inputs.shape[axis], state[0].shape[axis])


def _shares(kernels: dict[str, Kernel], blocks: Blocks) -> tuple[dict[str, Blocks], tuple[Array, ...]]:
    """The inputs' blocks: those added to each kernel's product, and those the step is given."""
    added = {}
    for name, kernel in kernels.items():
        added[name], blocks = blocks[: kernel.inputs], blocks[kernel.inputs :]
    return added, blocks


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


def _reset(state: State, resets: Array, axis: int) -> State:
    """The state, zero where a document starts."""
    where = jnp.expand_dims(resets, axis)
    return tuple(jnp.where(where, jnp.zeros((), part.dtype), part) for part in state)
