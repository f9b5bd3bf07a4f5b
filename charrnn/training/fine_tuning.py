"""Starting from a run: its network goes on with another text, whose new characters join its vocabulary."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charrnn.checkpoint import WEIGHTS, find_run, load_weights
from charrnn.config import ModelConfig, Origin, RunConfig, Size, validate
from charrnn.errors import CheckpointError, ConfigError, RunNotFoundError
from charrnn.fields import flag_of
from charrnn.nn.network import Network, create, named_arrays, with_arrays
from charrnn.text.vocabulary import FIRST_CHARACTER, Vocabulary

_HOW_IT_LEARNS = {"dropout", "variational", "weight_drop"}
_NOISE = 0.1


@dataclass(frozen=True)
class Ancestor:
    """A run to start from: what made it, its characters, its best weights, and where they lie."""

    config: RunConfig
    vocabulary: Vocabulary
    network: Network
    origin: Origin


def open_ancestor(run: str, checkpoints: Path) -> Ancestor:
    """The run of that name or path, or a `model.safetensors` file.

    Raises RunNotFoundError when there is none, CheckpointError when its weights cannot be read.
    """
    path = find_run(run, checkpoints).absolute()
    config, vocabulary, network, _ = load_weights(path)
    return Ancestor(config, vocabulary, network, Origin(str(path), _fingerprint(path)))


def reopen(origin: Origin) -> Ancestor:
    """The run that `origin` names. Raises CheckpointError when it is gone or has learnt since."""
    try:
        ancestor = open_ancestor(origin.run, Path())
    except (RunNotFoundError, CheckpointError) as error:
        raise CheckpointError(f"no step was saved yet, and what the run starts from cannot be read: {error}") from error
    if ancestor.origin != origin:
        raise CheckpointError(f"no step was saved yet, and {origin.run} has changed since; start anew with --init-from")
    return ancestor


def inherited_model(ancestor: Ancestor, options: dict[str, Any]) -> ModelConfig:
    """The run's model options; of those given, only what is about learning may differ.

    How much to drop follows from the new text, unless it is given.
    Raises ConfigError for one that contradicts the run's network.
    """
    model, changes = ancestor.config.model, dict[str, Any](dropout=None, weight_drop=None)
    for field in dataclasses.fields(ModelConfig):
        given, own = options.get(field.name), getattr(model, field.name)
        if given is None:
            continue
        if field.name not in _HOW_IT_LEARNS and given != own:
            raise ConfigError(
                f"{flag_of(field)} {given} contradicts --init-from: the network of {ancestor.origin.run} "
                f"has {'none' if own is None else own}; leave it out"
            )
        changes[field.name] = given
    if changes["dropout"] == 0:  # the way to drop units that it had goes with them
        changes.setdefault("variational", False)
    model = dataclasses.replace(model, **changes)
    validate(model)
    return model


def inherited_size(ancestor: Ancestor, size: Size) -> Size:
    """The run's point on the dial. Raises ConfigError when another one is asked for."""
    own = ancestor.config.training.size
    if size not in ("auto", own):
        raise ConfigError(f"--size {size} contradicts --init-from: {ancestor.origin.run} is {own}; leave it out")
    return own


def adapted_network(ancestor: Ancestor, vocabulary: Vocabulary, seed: int) -> Network:
    """The run's network for a vocabulary that begins with its own: what it has stays, to the bit.

    A new character's weights are the mean of the known characters' and a little noise.
    """
    known = ancestor.vocabulary
    assert vocabulary.characters.startswith(known.characters), "ids never change their characters"
    template = jax.eval_shape(lambda: create(ancestor.config.model, vocabulary.size, seed))
    shapes = {name: array.shape for name, array in named_arrays(template).items()}
    random = np.random.default_rng([seed, 3])
    arrays = {
        name: _extended(np.asarray(array), shapes[name], random)
        for name, array in sorted(named_arrays(ancestor.network).items())
    }
    return with_arrays(template, arrays)


def _extended(array: np.ndarray, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """An array with more slices along its one axis that is longer in `shape`: the axis of characters."""
    for axis, (have, want) in enumerate(zip(array.shape, shape, strict=True)):
        if have != want:
            known = np.take(array, np.arange(FIRST_CHARACTER, have), axis)
            more = (*shape[:axis], want - have, *shape[axis + 1 :])
            noise = _NOISE * known.std(axis, keepdims=True) * random.standard_normal(more)
            return np.concatenate([array, (known.mean(axis, keepdims=True) + noise).astype(array.dtype)], axis)
    return array


def _fingerprint(path: Path) -> str:
    file = path / WEIGHTS if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()
