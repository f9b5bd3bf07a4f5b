"""`model.safetensors`: the weights of a network with all that using them needs."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charrnn.checkpoint import files
from charrnn.checkpoint.arrays import read_arrays, serialized
from charrnn.config import ModelConfig, RunConfig
from charrnn.errors import CheckpointError
from charrnn.nn.network import Network, create, named_arrays, with_arrays
from charrnn.text.vocabulary import Vocabulary

WEIGHTS = "model.safetensors"
_FORMAT = "charrnn 2"
_KEYS = ("format", "config", "vocabulary", "validation")


def write_weights(path: Path, network: Network, config: str, vocabulary: str, validation: dict[str, Any]) -> None:
    """Replace the weights file; config and vocabulary are their JSON. Raises StorageError."""
    arrays = {name: np.asarray(array, order="C") for name, array in named_arrays(network).items()}
    metadata = dict(zip(_KEYS, (_FORMAT, config, vocabulary, json.dumps(validation)), strict=True))
    files.replace(path, serialized(arrays, metadata | {"sha256": _digest(arrays, metadata)}))


def load_weights(path: Path) -> tuple[RunConfig, Vocabulary, Network, dict[str, Any]]:
    """Read a run folder's best weights, or a `model.safetensors` file.

    Raises CheckpointError, in one line, for whatever is wrong with it.
    """
    file = path / WEIGHTS if path.is_dir() else path
    found: list[Any] = []

    def expected(metadata: dict[str, str]) -> dict[str, Any]:
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"not a model of this version of charrnn (format {metadata.get('format')!r})")
        config, vocabulary = RunConfig.from_json(metadata["config"]), Vocabulary.from_json(metadata["vocabulary"])
        check_complete(config)
        validation = json.loads(metadata["validation"])
        if not isinstance(validation, dict):
            raise CheckpointError("not a model of charrnn (validation)")
        model = config.model
        if file.stat().st_size < 4 * model.num_layers * (model.hidden_size or 0):  # before a giant is imagined
            raise CheckpointError("not a model of charrnn (smaller than the network it describes)")
        found.extend((config, vocabulary, validation))
        return named_arrays(_template(config.model, vocabulary.size))

    try:
        arrays, metadata = read_arrays(file, expected)
        if metadata.get("sha256") != _digest(arrays, metadata):
            raise CheckpointError("damaged: its checksum is not the one in its header")
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise CheckpointError(f"{name} holds values that are not finite")
    except FileNotFoundError:
        raise CheckpointError(f"{file}: not there yet; it is written at the first validation of the training") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    config, vocabulary, validation = found
    return config, vocabulary, with_arrays(_template(config.model, vocabulary.size), arrays), validation


def check_complete(config: RunConfig) -> None:
    """Raise CheckpointError when a run's configuration leaves open what is derived before a run starts."""
    needed = {
        "model": ("hidden_size", "embedding_size", "dropout"),
        "training": ("seq_length", "batch_size", "learning_rate", "eval_every"),
    }
    for part, names in needed.items():
        for name in names:
            if getattr(getattr(config, part), name) is None:
                raise CheckpointError(f"not a run's configuration: it has no {name}")


@lru_cache(maxsize=8)
def _template(config: ModelConfig, vocabulary_size: int) -> Network:
    """The network's structure, its parameters' shapes and dtypes in place of arrays."""
    return jax.eval_shape(lambda: create(config, vocabulary_size, 0))


def _digest(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over the texts and the arrays' names, dtypes, shapes and bytes, as hex."""
    digest = hashlib.sha256()
    for key in _KEYS:
        text = metadata.get(key, "").encode("utf-8", "surrogatepass")
        digest.update(f"{key} {len(text)}\n".encode() + text)
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
