"""The network: characters in, a stack of recurrent layers, logits of the next character out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from charrnn.config import ModelConfig
from charrnn.nn import recurrence
from charrnn.nn.arrays import Array, Carry, State, add_bias, product, storage_type
from charrnn.nn.cells import make_cell


class Layer(nnx.Module):
    """One recurrent layer's weights: `input_kernel [E, G*H]`, `recurrent_kernel [H, G*H]`, `bias [G*H]`."""

    def __init__(self, input_size: int, config: ModelConfig, rngs: nnx.Rngs):
        hidden_size = _known(config.hidden_size)
        self.cell = nnx.static(make_cell(config.cell, config.forget_bias))
        gates = self.cell.gates
        glorot, orthogonal = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        self.input_kernel = nnx.Param(_by_gate(glorot, rngs, gates, input_size, hidden_size))
        self.recurrent_kernel = nnx.Param(_by_gate(orthogonal, rngs, gates, hidden_size, hidden_size))
        self.bias = nnx.Param(jnp.asarray(self.cell.initial_bias(hidden_size), jnp.float32))

    def project(self, inputs: Array, precision: str) -> Array:
        """The input's part of the pre-activations, bias included: `[..., E]` to `[..., G*H]`."""
        return add_bias(product(inputs, self.input_kernel[...], precision), self.bias[...])


class Network(nnx.Module):
    """Embedding, recurrent layers and a linear head.

    The first layer's input is one of `V` characters, so its products are a `[V, G*H]` table looked
    up by id: `embedding [V, E]` times its `input_kernel`, or with `embedding_size` 0 (one-hot)
    the kernel itself.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, rngs: nnx.Rngs):
        hidden_size, embedding_size = _known(config.hidden_size), _known(config.embedding_size)
        shape = (vocabulary_size, embedding_size)
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), shape)) if embedding_size else None
        sizes = [embedding_size or vocabulary_size] + [hidden_size] * (config.num_layers - 1)
        self.layers = nnx.List([Layer(size, config, rngs) for size in sizes])
        if not embedding_size:
            # A one-hot input picks one row: unit rows reach the gates as strongly as an embedding does.
            # Glorot's scale for so wide a fan-in cost 0.2 nats after 770 steps of tinyshakespeare.
            kernel = self.layers[0].input_kernel
            kernel[...] = jax.random.normal(rngs.params(), kernel.shape)
        self.head_kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (hidden_size, vocabulary_size)))
        self.head_bias = nnx.Param(jnp.zeros(vocabulary_size))

    def initial_carry(self, batch_size: int) -> Carry:
        """The zero state of every layer, parts `[B, H]`."""
        return tuple(
            tuple(
                jnp.zeros((batch_size, layer.recurrent_kernel.shape[0]), layer.bias.dtype)
                for _ in range(layer.cell.state_parts)
            )
            for layer in self.layers
        )

    def first_projections(self, precision: str) -> Array:
        """What each character adds to the first layer's pre-activations, bias included, `[V, G*H]`."""
        first = self.layers[0]
        kernel = first.input_kernel[...]
        if self.embedding is not None:
            kernel = product(self.embedding[...], kernel, precision)
        return add_bias(kernel, first.bias[...])

    def head(self, hidden: Array, precision: str) -> Array:
        """Logits `[..., V]` of the last layer's outputs `[..., H]`."""
        return add_bias(product(hidden, self.head_kernel[...], precision), self.head_bias[...])

    def __call__(
        self,
        inputs: Array,
        resets: Array,
        carry: Carry,
        *,
        precision: str = "float32",
        dropout: float = 0.0,
        key: Array | None = None,
    ) -> tuple[Array, Carry]:
        """Run a window.

        inputs: `[T, B]` ids. resets: `[T, B]` bool, where the input and the state are zero.
        carry: the state before it. With `dropout` above 0 a `key` draws the masks.
        Returns the logits `[T, B, V]` and the state after the window.
        """
        storage = storage_type(precision, self.head_kernel.dtype)
        start = self.layers[0].bias[...].astype(storage)
        projected = look_up(self.first_projections(precision).astype(storage), inputs)
        projected = jnp.where(resets[..., None], jnp.broadcast_to(start, projected.shape), projected)
        hidden, after = projected, []
        for index, (layer, state) in enumerate(zip(self.layers, carry, strict=True)):
            if index:
                projected = layer.project(hidden, precision).astype(storage)
            hidden, state = recurrence.run(layer.cell, layer.recurrent_kernel[...], projected, state, resets, precision)
            after.append(state)
            if dropout and key is not None:
                hidden = drop(hidden, dropout, jax.random.fold_in(key, index))
        return self.head(hidden, precision), tuple(after)

    def step(self, table: Array, ids: Array, fresh: Array, carry: Carry, precision: str) -> tuple[Array, Carry]:
        """One character for every row, as generation needs it.

        table: `first_projections`. ids: `[B]`, the characters before. fresh: `[B]` bool, rows that
        start a document. Returns the logits `[B, V]` and the new state.
        """
        first = self.layers[0]
        projected = table[ids]
        start = jnp.broadcast_to(first.bias[...].astype(table.dtype), projected.shape)
        projected = jnp.where(fresh[:, None], start, projected)
        after: list[State] = []
        for layer, state in zip(self.layers, carry, strict=True):
            if after:
                projected = layer.project(after[-1][0], precision)
            state, _ = recurrence.step(layer.cell, layer.recurrent_kernel[...], projected, state, precision)
            after.append(state)
        return self.head(after[-1][0], precision), tuple(after)


def create(config: ModelConfig, vocabulary_size: int, seed: int) -> Network:
    """A freshly initialised network, reproducible from its seed."""
    return Network(config, vocabulary_size, nnx.Rngs(seed))


@jax.custom_vjp
def look_up(table: Array, ids: Array) -> Array:
    """Rows of a `[V, D]` table by id. The gradient is a product with a one-hot, not a scatter."""
    return table[ids]


def _sum_type(array: Array) -> jnp.dtype:
    return jnp.dtype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def _look_up_forward(table: Array, ids: Array) -> tuple[Array, tuple[Array, Array]]:
    return table[ids], (table, ids)


def _look_up_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, None]:
    table, ids = residuals
    rows, flat = table.shape[0], gradient.reshape(-1, gradient.shape[-1])
    if rows > 2048:  # a one-hot as wide as a large alphabet costs more than the scatter it spares
        sums = jnp.zeros(table.shape, _sum_type(table))
        return sums.at[ids.reshape(-1)].add(flat.astype(sums.dtype)).astype(table.dtype), None
    one_hot = jax.nn.one_hot(ids.reshape(-1), rows, dtype=flat.dtype, axis=0)
    sums = lax.dot_general(one_hot, flat, (((1,), (0,)), ((), ())), preferred_element_type=_sum_type(table))
    return sums.astype(table.dtype), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def drop(values: Array, rate: float, key: Array) -> Array:
    """Set a share `rate` of the values to zero and scale the rest to keep the mean (Srivastava 2014)."""
    # Eight random bits a value are enough and cost a quarter of thirty-two.
    threshold = min(max(round((1 - rate) * 256), 1), 255)
    kept = jax.random.bits(key, values.shape, jnp.uint8) < np.uint8(threshold)
    return jnp.where(kept, values * (256 / threshold), jnp.zeros((), values.dtype))


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
    return jax.tree.unflatten(structure, [jnp.asarray(named[name]) for name in names])


def _segment(entry: Any) -> str:
    return str(getattr(entry, "name", getattr(entry, "idx", None)))


def _by_gate(initializer: Any, rngs: nnx.Rngs, gates: int, rows: int, columns: int) -> Array:
    """A `[rows, gates * columns]` kernel, each gate's block initialised by itself."""
    return jnp.concatenate([initializer(rngs.params(), (rows, columns)) for _ in range(gates)], -1)


def _known(size: int | None) -> int:
    assert size is not None, "sizes are derived before a network is made"
    return size
