"""A loss or gradient that is no number never reaches the weights; a run that diverges goes back or says so."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import charrnn.training.step as step_module
from charrnn.checkpoint.background import Background
from charrnn.errors import CheckpointError, TrainingError
from charrnn.nn.network import named_arrays
from charrnn.trainer import Job, start
from charrnn.training import loop
from charrnn.training.events import Finished, Warned
from charrnn.training.objective import negative_log_likelihood
from charrnn.training.progress import Health, Progress
from charrnn.training.step import StepSettings, place, stack, train_steps

RHYME = "the cat sat on the mat and the dog sat on the log.\n"
POISON = "#"
TINY = {"hidden_size": 9, "seq_length": 8, "batch_size": 1, "precision": "float32", "dropout": 0.0, "reset_rate": 0.0,
        "eval_every": 50, "sample_every": 0, "documents": "file"}  # fmt: skip


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Windows that hold the character with id 4 (`#`) have a NaN in the gradient."""

    def poisoned(logits: Any, targets: Any) -> Any:
        bad = jnp.where((targets == 4).any(), jnp.float32(np.nan), jnp.float32(1.0))
        return negative_log_likelihood(logits, targets) * bad

    monkeypatch.setattr(step_module, "negative_log_likelihood", poisoned)
    with jax.numpy_dtype_promotion("standard"):
        yield


def job(tmp_path: Path, poisoned_windows: int, **options: Any) -> Job:
    """A run of which so many windows in a row are poisoned, from step 20 of each epoch on."""
    text = list(RHYME * 20)
    for window in range(20, 20 + poisoned_windows):
        text[8 * window + 3] = POISON
    text[900] = POISON if not poisoned_windows else text[900]  # held out, so that the alphabet stays the same
    (tmp_path / "text.txt").write_text("".join(text), "utf-8")
    return start((str(tmp_path / "text.txt"),), checkpoints=tmp_path, **(TINY | {"learning_rate": 0.01} | options))


def test_one_bad_gradient_is_skipped_and_counted(tmp_path: Path, record: Any) -> None:
    ready = job(tmp_path, 1, steps=60)
    assert ready.task.vocabulary.encode(POISON)[0] == 4
    settings = StepSettings.of(ready.task.config)
    batches = [ready.task.train.batch(step) for step in (19, 20)]
    rates = np.full(16, 0.01, np.float32)

    def after(count: int) -> Any:
        state = place(ready.task.first_state(), settings)
        return train_steps(state, stack(batches, 16), rates, np.int32(count), settings)

    (one, _, _), (two, losses, norms) = after(1), after(2)
    assert math.isfinite(losses[0]) and math.isnan(losses[1]) and math.isnan(norms[1])
    assert (int(one.step), int(two.step)) == (1, 2)
    for before, now in zip(jax.tree.leaves(one._replace(step=0)), jax.tree.leaves(two._replace(step=0)), strict=True):
        np.testing.assert_array_equal(before, now)
    events = list(ready.events())
    assert isinstance(events[-1], Finished) and events[-1].reason == "budget" and math.isfinite(events[-1].best_nats)
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 1 and warned[0].endswith("not a finite number; the update is left out")
    metrics = ready.task.folder.metrics()
    assert [event["skipped"] for event in metrics if event["event"] == "train"][-1] == 1
    progress = ready.task.folder.last_progress(Progress.from_json)[1]
    assert (progress.health.skipped, progress.health.skipped_in_a_row) == (1, 0)
    record("NaN put into one gradient", 1, "the update is skipped and counted; the state keeps its bits")


def test_what_was_left_out_before_going_back_stays_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = loop.validate, []

    def the_second_is_no_number(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)._replace(**({"nats": math.nan} if len(calls) == 2 else {}))

    monkeypatch.setattr(loop, "validate", the_second_is_no_number)
    ready = job(tmp_path, 1, steps=40, eval_every=15)
    assert isinstance(list(ready.events())[-1], Finished)
    metrics = ready.task.folder.metrics()
    assert [event["step"] for event in metrics if event["event"] == "back"] == [15]
    assert [event["skipped"] for event in metrics if event["event"] == "train"][-1] == 2  # step 21, twice


def test_bad_gradients_in_a_row_go_back_and_then_stop(
    tmp_path: Path, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_A_CALL", 0.0)  # every step is a call of its own, and saved
    monkeypatch.setattr(Background, "busy", False)
    ready = job(tmp_path, 12, steps=200, checkpoint_every=0.0)
    kept = list[int]()
    with pytest.raises(TrainingError, match=r"1[0-9] times in a row") as caught:
        for event in ready.events():
            if isinstance(event, Warned) and "back to step" in event.text:
                kept.append(ready.task.folder.steps()[-1])
    assert "lower --learning-rate than 0.01" in str(caught.value) and "\n" not in str(caught.value)
    metrics = ready.task.folder.metrics()
    back = [event for event in metrics if event["event"] == "back"]
    assert [event["times"] for event in back] == [1, 2, 3]
    # What was saved among the bad steps, the 21st to the 32nd, is neither gone back to nor left to be resumed.
    assert [event["step"] for event in back] == kept == [20, 20, 20]
    assert "NaN" not in (ready.task.folder.path / "metrics.jsonl").read_text()
    state, _, _ = ready.task.folder.restore(ready.task.state_structure(), Progress.from_json, pytest.fail)
    assert all(np.isfinite(array).all() for array in named_arrays(state.network).values())
    record("NaN put into K gradients in a row", 12, "skipped; went back 3 times with a lower rate; then one clear line")


def test_a_run_that_cannot_be_learnt_says_so_or_survives(tmp_path: Path) -> None:
    ready = job(tmp_path, 0, steps=300, learning_rate=10.0)
    try:
        last = list(ready.events())[-1]
        assert isinstance(last, Finished) and last.reason == "budget"
    except TrainingError as error:
        assert "lower --learning-rate" in str(error)
    for saved in ready.task.folder.saved_steps():
        with (saved.path / "progress.json").open() as file:
            json.load(file)


def test_an_edited_configuration_is_not_resumed(tmp_path: Path) -> None:
    ready = job(tmp_path, 0, steps=10)
    list(ready.events())
    config = ready.task.folder.path / "config.json"
    config.write_text(config.read_text().replace('"weight_decay": 0.01', '"weight_decay": 0.02'))
    again = start((), run="text", checkpoints=tmp_path, resume=True, steps=20)
    with pytest.raises(CheckpointError, match="not what its saved steps were made with"):
        list(again.events())


def observed(losses: list[float]) -> Health:
    """The health after these losses."""
    health = Health()
    health.observe(np.array(losses), np.ones(len(losses)))
    return health


def test_a_spike_that_recovers_is_no_divergence() -> None:
    assert observed([2.0] * 100).sound
    spiking = observed([2.0] * 100 + [9.0] * 50)
    assert not spiking.sound and not spiking.diverged
    assert observed([2.0] * 100 + [9.0] * 50 + [2.0] * 200).sound
    diverged = observed([2.0] * 100 + [9.0] * 600)
    assert "the loss rose from 2.00 to 9.00 nats and did not come down for" in diverged.diverged
    assert not observed([4.2] * 100 + [3.3] * 5000).diverged  # badly learnt is not diverged


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_steps_are_counted_in_a_row(bad: float) -> None:
    health = observed([1.0, bad, bad])
    assert (health.skipped, health.skipped_in_a_row, health.sound, health.diverged) == (2, 2, False, "")
    health.observe(np.array([1.0]), np.array([1.0]))
    assert (health.skipped, health.skipped_in_a_row, health.sound) == (2, 0, True)
    assert "10 times in a row" in observed([bad] * 10).diverged
