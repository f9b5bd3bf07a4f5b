"""Runs that are moved, robbed or made anew between a training and the next: told, and nobody else's run is touched."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from charrnn.checkpoint import RunFolder
from charrnn.errors import CheckpointError, CorpusError, StorageError
from charrnn.trainer import start
from charrnn.training import events

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the program runs; Optax raises a Python float to an int32 power."""
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"):
        yield tmp_path


def test_a_run_folder_that_vanishes(place: Path) -> None:
    (place / "rhyme.txt").write_text(TEXT)
    job = start(("rhyme.txt",), hidden_size=8, seq_length=8, batch_size=2, steps=500, checkpoint_every=0.0,
                precision="float32", dropout=0.0, embedding_size=0)  # fmt: skip
    with pytest.raises(StorageError, match=r"checkpoints/rhyme: cannot be written \(it was moved, removed"):
        for event in job.events():
            if isinstance(event, events.Trained) and not (place / "elsewhere").exists():
                job.task.folder.path.rename(place / "elsewhere")
                another, lock = RunFolder.create(place / "checkpoints", "rhyme", job.task.config, job.task.vocabulary)
    lock.release()
    assert another.metrics() == [] and another.steps() == []  # a new run of that name is another's


def test_a_text_that_changes_while_it_is_learnt(place: Path) -> None:
    options: dict[str, Any] = {"hidden_size": 8, "seq_length": 8, "batch_size": 2, "steps": 40, "sample_every": 0,
                               "precision": "float32", "dropout": 0.0, "embedding_size": 0}  # fmt: skip
    ended = []
    for name, after in (("left", TEXT), ("changed", TEXT[::-1]), ("emptied", "")):
        (place / "rhyme.txt").write_text(TEXT)
        job = start(("rhyme.txt",), run=name, **options)
        for event in job.events():
            if isinstance(event, events.Trained):
                (place / "rhyme.txt").write_text(after)
        ended.append((job.task.folder.saved_steps()[-1].path / "state.safetensors").read_bytes())
        if after != TEXT:
            with pytest.raises(CorpusError, match=f"not the one that run {name} learnt|rhyme.txt: empty"):
                start((), run=name, resume=True, steps=50)
    assert ended[0] == ended[1] == ended[2]  # what it learns is what was there when it began


@pytest.fixture
def short(place: Path) -> RunFolder:
    """A run of 40 steps with a save in the middle and an end to come."""
    (place / "rhyme.txt").write_text(TEXT)
    job = start(("rhyme.txt",), hidden_size=8, seq_length=8, batch_size=2, steps=40, eval_every=20, sample_every=0,
                precision="float32", dropout=0.0, embedding_size=0, reset_rate=0.0)  # fmt: skip
    list(job.events())
    return RunFolder(job.task.folder.path)


def warnings_of(name: str, **options: Any) -> list[str]:
    """What resuming a run warns of."""
    job = start((), run=name, resume=True, **options)
    return [event.text for event in job.events() if isinstance(event, events.Warned)]


def test_what_is_missing_from_a_run_is_told_on_resume(short: RunFolder) -> None:
    whole = short.metrics()
    lines = short.metrics_path.read_bytes().splitlines(keepends=True)
    assert warnings_of("rhyme") == [] and short.metrics() == whole
    short.metrics_path.write_bytes(b"".join([lines[0], b"{nonsense\n", *lines[2:], lines[-1]]))
    (told,) = warnings_of("rhyme")
    assert "metrics.jsonl: 1 of its 6 lines are missing or damaged" in told
    assert short.metrics() == [whole[0], *whole[2:]]  # the line too many is cut, the damaged one counted
    short.metrics_path.unlink()
    (told,) = warnings_of("rhyme")
    assert "6 of its 6 lines" in told


def test_a_run_whose_steps_were_removed_begins_anew_but_over_no_weights(short: RunFolder) -> None:
    shutil.rmtree(short.path / "steps")
    weights = (short.path / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"would replace its weights; --init-from rhyme learns on from them"):
        start((), run="rhyme", resume=True, steps=20)
    assert (short.path / "model.safetensors").read_bytes() == weights
    (short.path / "model.safetensors").unlink()
    (told,) = warnings_of("rhyme", steps=20)
    assert "its steps were removed: it begins anew" in told and short.steps() == [20]
    assert [event["step"] for event in short.metrics()] == [16, 20, 20]


def test_a_text_that_moved_is_the_same_text(short: RunFolder, place: Path) -> None:
    (place / "elsewhere").mkdir()
    moved = (place / "rhyme.txt").rename(place / "elsewhere" / "rhyme.txt")
    with pytest.raises(CorpusError, match="no such file"):
        start((), run="rhyme", resume=True)
    start((str(moved),), run="rhyme", resume=True, steps=45).lock.release()
    assert warnings_of("rhyme") == [] and short.steps()[-1] == 45  # from where it lies now
    back = moved.rename(place / "again.txt")
    begun = start((str(back),), run="two", steps=45, documents="file")
    begun.lock.release()
    job = start((str(back.rename(moved)),), run="two", steps=45, documents="file")  # the same command, moved
    job.lock.release()
    assert job.resume and job.task.made_from == begun.task.made_from
    assert job.task.folder.config().corpus == (str(moved),) != begun.task.config.corpus
