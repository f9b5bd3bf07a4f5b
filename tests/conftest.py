"""What holds for all tests: four CPU devices, strict promotion, and a cache folder of their own.

JAX reads these settings when it is first imported, and the programs that tests start inherit them.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "4",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_STARTED_HERE = "PYTEST_XDIST_WORKER" not in os.environ
if _STARTED_HERE:  # the workers of pytest-xdist share one cache
    os.environ["CHARRNN_CACHE"] = tempfile.mkdtemp(prefix="charrnn-tests-")
os.environ |= {  # and what one of them compiled, in the folder of the programs that tests start
    "JAX_COMPILATION_CACHE_DIR": os.path.join(os.environ["CHARRNN_CACHE"], "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

settings.register_profile("house", deadline=None, max_examples=60)
settings.load_profile("house")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache folder made above."""
    if _STARTED_HERE:
        shutil.rmtree(os.environ["CHARRNN_CACHE"], ignore_errors=True)


def model_of(documents: str, whole: bool, characters: str) -> Any:
    """A model of random weights that knows a few letters: what it says is exact, whatever it says."""
    import jax
    import numpy as np

    from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
    from charrnn.model import Model
    from charrnn.nn.network import create
    from charrnn.text.vocabulary import Vocabulary

    random = np.random.default_rng(7)
    shape = ModelConfig(cell="lstm", hidden_size=8, embedding_size=4, dropout=0.0)
    training = TrainingConfig(seq_length=8, batch_size=4, learning_rate=0.01, eval_every=10)
    network = jax.tree.map(
        lambda weights: weights + random.normal(0, 0.5, weights.shape).astype(np.float32),
        create(shape, len(characters) + 2, 3),
    )
    config = RunConfig(
        ("letters.txt",), "0" * 64, DataConfig(documents=documents), shape, training, {}, whole_documents=whole
    )
    return Model(config, Vocabulary(characters), network, {"nats": 1.0, "step": 1})


@pytest.fixture(scope="session")
def letters() -> Any:
    """A model of one document that has no end."""
    return model_of("file", False, "\n abcdef")


@pytest.fixture(scope="session")
def letter_lines() -> Any:
    """A model of a document a line, each with its end."""
    return model_of("line", True, " abcdef")


@pytest.fixture(scope="session")
def letter_runs(letters: Any, letter_lines: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs: `letters`, and `lines`, the newest."""
    from charrnn.checkpoint import RunFolder

    checkpoints = tmp_path_factory.mktemp("runs") / "checkpoints"
    for name, model in (("letters", letters), ("lines", letter_lines)):
        folder, lock = RunFolder.create(checkpoints, name, model.config, model.vocabulary)
        folder.save_weights(model.network, model.validation)
        lock.release()
    return checkpoints


@pytest.fixture
def make_text(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Prepare a text to be scored by a model."""
    from charrnn.scoring.text import open_text

    with ExitStack() as stack:

        def make(model: Any, content: str, name: str = "text.txt") -> Any:
            (tmp_path / name).write_text(content, "utf-8")
            return stack.enter_context(open_text(tmp_path / name, model.config, model.vocabulary))

        yield make
