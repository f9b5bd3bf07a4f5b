"""What the fault tests share: how many tries, the table of results, and runs too small to wait for.

`make test-faults` sets CHARRNN_FAULTS=full: every row of the table with its full number of tries.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from faulty import CONFIG, VOCABULARY
from person import RHYME

import charrnn
from charrnn.checkpoint import RunFolder

FULL = os.environ.get("CHARRNN_FAULTS") == "full"
ROWS: dict[str, tuple[str, str]] = {}
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.txt"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether all tries of the table are made."""
    return FULL


@pytest.fixture
def seed() -> int:
    """A seed that is another each time in the full form; it is printed, and CHARRNN_SEED gives it again."""
    given = os.environ.get("CHARRNN_SEED")
    chosen = int(given) if given else random.randrange(2**32) if FULL else 0
    print(f"CHARRNN_SEED={chosen}")
    return chosen


@pytest.fixture
def record() -> Callable[[str, object, str], None]:
    """A function that enters one row of the table: the fault, the tries, what came of them."""

    def enter(fault: str, tries: object, outcome: str) -> None:
        ROWS[fault] = (str(tries), outcome)

    return enter


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without steps."""
    folder, lock = RunFolder.create(tmp_path / "checkpoints", "one", CONFIG, VOCABULARY)
    lock.release()
    return folder


@pytest.fixture(scope="session", autouse=True)
def table() -> Iterator[None]:
    """Write the table at the end of the full form."""
    yield
    if FULL and len(ROWS) > 15:
        width = max(map(len, ROWS))
        lines = [f"{fault:{width}}  {tries:>7}  {outcome}" for fault, (tries, outcome) in ROWS.items()]
        head = [f"{'fault':{width}}  {'tries':>7}  outcome", "-" * (width + 40)]
        made = ["Made by `make test-faults`. A try that does not end as told fails the run.", ""]
        TABLE.write_text("\n".join([*made, *head, *lines]) + "\n", "utf-8")
        print("\n" + "\n".join([*head, *lines]))


State = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def state_of() -> Callable[[int], State]:
    """A function that makes a small state, another for each step."""

    def make(step: int) -> State:
        random = np.random.default_rng(step)
        return {
            "weights": random.normal(size=(7, 5)).astype(np.float32),
            "step": np.int32(step) + np.zeros((), np.int32),
        }

    return make


@pytest.fixture
def promotion() -> Iterator[None]:
    """Optax's bias correction raises a Python float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the program runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small run, `rhyme`."""
    place = tmp_path_factory.mktemp("trained")
    (place / "rhyme.txt").write_text(RHYME * 20)
    (place / "other.txt").write_text(RHYME * 21)
    (place / "folder").mkdir()
    (place / "dangling").symlink_to("nowhere")
    for name, content in {"empty": b"", "latin": b"caf\xe9 " * 99, "utf-16": RHYME.encode("utf-16"), "nul": b"a\0b",
                          "latin.safetensors": b"caf\xe9 " * 99}.items():  # fmt: skip
        (place / name).write_bytes(content)
    with jax.numpy_dtype_promotion("standard"):
        charrnn.train(place / "rhyme.txt", checkpoints=place / "checkpoints", hidden_size=8, seq_length=8, batch_size=2,
                      steps=2, sample_every=0, precision="float32", dropout=0.0, embedding_size=0)  # fmt: skip
    return place
