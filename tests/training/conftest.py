"""A short text and a configuration small enough for unit tests."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig

RHYME = "the cat sat on the mat and the dog sat on the log.\n"


@pytest.fixture(autouse=True)
def optax_promotion() -> Iterator[None]:
    """Optax's bias correction raises a Python float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of one document."""
    path = tmp_path / "rhyme.txt"
    path.write_text(RHYME * 60, "utf-8")
    return path


@pytest.fixture
def tiny_config() -> RunConfig:
    """The configuration of a small run."""
    training = TrainingConfig(
        size="tiny", steps=20, seq_length=8, batch_size=4, learning_rate=0.01, eval_every=10, precision="float32"
    )
    model = ModelConfig(hidden_size=8, embedding_size=4, dropout=0.1)
    return RunConfig(("rhyme.txt",), "0" * 64, DataConfig(documents="file", val_fraction=0.1), model, training, {})
