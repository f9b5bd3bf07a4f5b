"""The network: characters in, a stack of recurrent layers, logits of the next character out."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from charrnn.config import ModelConfig
from charrnn.nn import recurrence
from charrnn.nn.arrays import Array, Blocks, Carry, State, add_bias, dense, dense_blocks, rows_of, storage_type
from charrnn.nn.cells import Kernel, make_cell
from charrnn.nn.random import GENERATOR, mask
from charrnn.nn.recurrence import LookUp, Weights


class Dropout(NamedTuple):
    """What training leaves out at random.

    units: share of each layer's outputs, anew at every character, or with `variational` the same
    ones throughout a window (Gal & Ghahramani 2016). weights: share of the recurrent matrices, the same throughout
    a window and for all of a device's rows (Merity 2017).
    """

    units: float = 0.0
    variational: bool = False
    weights: float = 0.0


NO_DROPOUT = Dropout()


class Layer(nnx.Module):
    """One recurrent layer's weights.

    `input_kernel [E, G*H]` and `bias [G*H]` where the cell has input gates, and the cell's own
    matrices and vectors by their names.
    """

    def __init__(self, input_size: int, config: ModelConfig, rngs: nnx.Rngs):
        hidden_size, cell = _known(config.hidden_size), make_cell(config)
        self.cell, self.hidden_size = nnx.static(cell), nnx.static(hidden_size)
        self.input_size = nnx.static(input_size)
        self.kernel_names = nnx.static(tuple(cell.kernels(input_size, hidden_size)))
        self.vector_names = nnx.static(tuple(cell.vectors(hidden_size)))
        self.input_kernel: Any = nnx.data(None)
        self.bias: Any = nnx.data(None)
        if cell.input_gates:
            initials, shape = cell.initial_input(input_size, hidden_size), (input_size, hidden_size)
            self.input_kernel = nnx.Param(jnp.concatenate([_initialised(*how, rngs, shape) for how in initials], -1))
            self.bias = nnx.Param(jnp.asarray(cell.initial_bias(hidden_size), jnp.float32))
        for name, kernel in cell.kernels(input_size, hidden_size).items():
            parts = [_initialised(kernel.initial, kernel.scale, rngs, (kernel.rows, width)) for width in kernel.blocks]
            setattr(self, name, nnx.Param(jnp.concatenate(parts, -1)))
        for name, values in cell.vectors(hidden_size).items():
            setattr(self, name, nnx.Param(jnp.asarray(values, jnp.float32)))

    @property
    def weights(self) -> Weights:
        """What the recurrence multiplies with at every step."""
        kernels, vectors = ({name: getattr(self, name)[...] for name in names}
                            for names in (self.kernel_names, self.vector_names))  # fmt: skip
        return Weights(kernels, vectors)

    def project(self, inputs: Array, precision: str) -> Array:
        """The input's part of the gates, bias included: `[..., E]` to `[..., G*H]`; the input itself if none."""
        if self.input_kernel is None:
            return inputs
        return add_bias(dense(inputs, self.input_kernel[...], precision), self.bias[...])

    def project_window(self, inputs: Array, precision: str) -> Blocks:
        """The same for a window, in the type that feeds products, a block `[..., H]` a gate."""
        if self.input_kernel is None:
            return (inputs.astype(storage_type(precision, inputs.dtype)),)
        return dense_blocks(inputs, self.input_kernel[...], self.bias[...], self.cell.input_gates, precision)

    def initial_state(self, batch_size: int, dtype: jnp.dtype) -> State:
        """Zeros, parts `[B, H]`."""
        return tuple(jnp.zeros((batch_size, self.hidden_size), dtype) for _ in range(self.cell.state_parts))


class Network(nnx.Module):
    """Embedding, recurrent layers and a linear head.

    The first layer's input is one of `V` characters, so its products are a `[V + 1, G*H]` table looked
    up by id: `embedding [V, E]` times its `input_kernel`, or with `embedding_size` 0 (one-hot)
    the kernel itself.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, rngs: nnx.Rngs):
        hidden_size, embedding_size = _known(config.hidden_size), _known(config.embedding_size)
        shape = (vocabulary_size, embedding_size)
        self.embedding: Any = nnx.Param(jax.random.normal(rngs.params(), shape)) if embedding_size else None
        sizes = [embedding_size or vocabulary_size] + [hidden_size] * (config.num_layers - 1)
        self.layers = nnx.List([Layer(size, config, rngs) for size in sizes])
        self.residual = nnx.static(config.residual)
        if not embedding_size:
            # A one-hot input picks one row: unit rows reach the gates as strongly as an embedding does.
            # Glorot's scale for so wide a fan-in cost 0.2 nats after 770 steps of tinyshakespeare.
            kernel, cell = self.layers[0].input_kernel, self.layers[0].cell
            scales = [scale for _, scale in cell.initial_input(vocabulary_size, hidden_size)]
            rows = jax.random.normal(rngs.params(), kernel.shape)
            kernel[...] = rows * jnp.broadcast_to(jnp.repeat(jnp.array(scales), hidden_size), kernel.shape)
        self.head_kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (hidden_size, vocabulary_size)))
        self.head_bias = nnx.Param(jnp.zeros(vocabulary_size))

    def initial_carry(self, batch_size: int) -> Carry:
        """The zero state of every layer, parts `[B, H]`."""
        return tuple(layer.initial_state(batch_size, self.head_bias.dtype) for layer in self.layers)

    def first_projections(self, precision: str) -> Array:
        """What the first layer makes of each character: its part of the gates with the bias, `[V + 1, G*H]`.

        The last row (`before_any`) is for no character, a zero vector.
        """
        first = self.layers[0]
        if self.embedding is None:
            of_characters = add_bias(first.input_kernel[...], first.bias[...])
        else:
            of_characters = first.project(self.embedding[...], precision)
        of_none = jnp.zeros_like(of_characters[0]) if first.bias is None else first.bias[...]
        return jnp.concatenate([of_characters, of_none[None]])

    def head(self, hidden: Array, precision: str) -> Array:
        """Logits `[..., V]` of the last layer's outputs `[..., H]`."""
        return add_bias(dense(hidden, self.head_kernel[...], precision), self.head_bias[...])

    def __call__(
        self,
        inputs: Array,
        resets: Array,
        carry: Carry,
        *,
        precision: str = "float32",
        dropout: Dropout = NO_DROPOUT,
        key: Array | None = None,
    ) -> tuple[Array, Carry]:
        """Run a window.

        inputs: `[T, B]` ids. resets: `[T, B]` bool, where the input and the state are zero.
        carry: the state before it. With any `dropout` a `key` draws what is left out.
        Returns the logits `[T, B, V]` and the state after the window.
        """
        storage = storage_type(precision, self.head_kernel.dtype)
        # A reset reads a row of the table: its gradient comes with the others' (a `where` cost a tenth of a step).
        table = self.first_projections(precision).astype(storage)
        looked_up = LookUp(table, jnp.where(resets, before_any(table), inputs))
        if key is None:
            dropout, key = NO_DROPOUT, jax.random.key(0, impl=GENERATOR)
        hidden: Any = None
        after: list[State] = []
        for index, (layer, state) in enumerate(zip(self.layers, carry, strict=True)):
            below = hidden
            source = layer.project_window(below, precision) if index else looked_up
            weights = layer.weights
            if dropout.weights:
                kernels = layer.cell.kernels(layer.input_size, layer.hidden_size)
                weights = _drop_weights(weights, kernels, dropout.weights, jax.random.fold_in(key, 2 * index + 1))
            hidden, state = recurrence.run(layer.cell, weights, source, state, resets, precision)
            after.append(state)
            if self.residual and index:
                hidden = hidden + below
            if dropout.units:
                rows = hidden.shape[1:] if dropout.variational else hidden.shape
                hidden = drop(hidden, dropout.units, jax.random.fold_in(key, 2 * index), rows)
        return self.head(hidden, precision), tuple(after)

    def step(self, table: Array, ids: Array, carry: Carry, precision: str) -> tuple[Array, Carry]:
        """One character for every row, as generation needs it.

        table: `first_projections`. ids: `[B]`, the characters before, `before_any` in rows that start a document.
        Returns the logits `[B, V]` and the new state.
        """
        after: list[State] = []
        hidden = projected = rows_of(table, ids)
        for index, (layer, state) in enumerate(zip(self.layers, carry, strict=True)):
            below = hidden
            if index:
                projected = layer.project(below, precision)
            state, _ = recurrence.step(layer.cell, layer.weights, projected, state, precision)
            after.append(state)
            hidden = state[0] + below if self.residual and index else state[0]
        return self.head(hidden, precision), tuple(after)


def before_any(table: Array) -> int:
    """The id, in a table of `first_projections`, of what comes before a document's first character."""
    return len(table) - 1


def create(config: ModelConfig, vocabulary_size: int, seed: int) -> Network:
    """A freshly initialised network, reproducible from its seed."""
    return _created(config, vocabulary_size, np.uint32(seed))


@partial(jax.jit, static_argnames=("config", "vocabulary_size"))
def _created(config: ModelConfig, vocabulary_size: int, seed: Array) -> Network:
    """All at once: made one by one, forty small programs took a second longer to compile."""
    return Network(config, vocabulary_size, nnx.Rngs(jax.random.key(seed, impl=GENERATOR)))


def drop(values: Array, rate: float, key: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Set a share `rate` of the values to zero and scale the rest to keep the mean (Srivastava 2014).

    With a `shape` one mask of that shape is used along the leading axes it lacks.
    """
    first, second = jax.random.key_data(key)
    kept = jnp.broadcast_to(mask((first, second), 1 - rate, shape or values.shape), values.shape)
    return jnp.where(kept, values / (1 - rate), jnp.zeros((), values.dtype))


def _drop_weights(weights: Weights, kernels: dict[str, Kernel], rate: float, key: Array) -> Weights:
    """The matrices with a share of what multiplies the state set to zero, the same entries throughout a window."""
    dropped, keys = dict[str, Array](), jax.random.split(key, len(kernels))
    for (name, kernel), k in zip(kernels.items(), keys, strict=True):
        inputs, recurrent = jnp.split(weights.kernels[name], [kernel.sees_state_from])
        dropped[name] = jnp.concatenate([inputs, drop(recurrent, rate, k)])
    return weights._replace(kernels=dropped)


def exact_kernels(network: Network) -> set[str]:
    """The names of the matrices that are not rounded to bfloat16, nor what they are multiplied with."""
    sizes = [(layer, layer.hidden_size) for layer in network.layers]
    return {name for layer, size in sizes for name, kernel in layer.cell.kernels(size, size).items() if kernel.exact}


def rounded(network: Network, storage: jnp.dtype) -> Network:
    """The network with its matrices in the type that its products take them in, but for those of `exact` kernels."""
    exact = exact_kernels(network)

    def of(path: tuple[Any, ...], weights: Array) -> Array:
        return weights.astype(storage) if weights.ndim == 2 and _segment(path[-2]) not in exact else weights

    return jax.tree.map_with_path(of, network)


def named_arrays(network: Network) -> dict[str, Array]:
    """The parameters by dotted name, such as `layers.0.recurrent_kernel`."""
    named: dict[str, Array] = {}

    def visit(prefix: str, node: Any) -> None:
        for name, child in node.items():
            if isinstance(child, dict):
                visit(f"{prefix}{name}.", child)
            else:
                named[f"{prefix}{name}"] = child

    visit("", nnx.to_pure_dict(nnx.state(network, nnx.Param)))
    return named


def with_arrays(network: Network, named: dict[str, Any]) -> Network:
    """The network with its parameters replaced by `named`, whose keys are those of `named_arrays`."""
    leaves, structure = jax.tree.flatten_with_path(network)
    names = [".".join(_segment(entry) for entry in path[:-1]) for path, _ in leaves]
    return jax.tree.unflatten(structure, [jax.device_put(named[name]) for name in names])


def _segment(entry: Any) -> str:
    return str(getattr(entry, "name", getattr(entry, "idx", None)))


def _initialised(initial: str, scale: float, rngs: nnx.Rngs, shape: tuple[int, int]) -> Array:
    """A block of a matrix, as `Kernel` says that it starts."""
    initializers = {
        "glorot": nnx.initializers.glorot_uniform(),
        "orthogonal": nnx.initializers.orthogonal(),
        "identity": lambda _, shape: jnp.eye(*shape),
    }
    return scale * initializers[initial](rngs.params(), shape)


def _known(size: int | None) -> int:
    assert size is not None, "sizes are derived before a network is made"
    return size
