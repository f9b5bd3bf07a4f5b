"""The loop as a whole: it learns, resumes to the same bits, stops when asked; and its small parts."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from charrnn.config import TrainingConfig
from charrnn.errors import ConfigError, TrainingError
from charrnn.model import load
from charrnn.nn.network import NO_DROPOUT, named_arrays
from charrnn.text.batches import Batch
from charrnn.trainer import Sampled, start
from charrnn.training import loop
from charrnn.training.devices import _accelerator_has_bfloat16, _cpu_has_bfloat16, keep_compiled_programs
from charrnn.training.events import Validated
from charrnn.training.objective import negative_log_likelihood
from charrnn.training.optimizer import learning_rate
from charrnn.training.progress import Progress
from charrnn.training.step import StepSettings, initial_state, place, train_steps
from charrnn.training.task import budget_spent
from charrnn.training.validation import Validation, validate

RHYME = "the cat sat on the mat and the dog sat on the log.\n"
# The dropout is given, since the recipe's differs with the budget and each is another program to compile.
TINY = {"hidden_size": 16, "seq_length": 16, "batch_size": 4, "learning_rate": 0.02, "precision": "float32",
        "dropout": 0.2, "weight_drop": 0.1}  # fmt: skip


def job_of(text: Path, folder: Path, **options):
    return start((str(text),), checkpoints=folder, **(TINY | {"steps": 60, "eval_every": 20} | options))


def weights(job) -> dict:
    template = initial_state(job.task.config, job.task.vocabulary.size)
    state, _, _ = job.task.folder.restore(template, Progress.from_json, pytest.fail)
    return {name: np.asarray(array) for name, array in named_arrays(state.network).items()} | {
        f"optimizer {k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state.optimizer))
    }


def curve(job) -> list:
    clock = {"elapsed", "characters_per_second"}
    return [{key: value for key, value in event.items() if key not in clock} for event in job.task.folder.metrics()]


def test_a_step_is_saved_before_the_first_validation_is_told(text_file, tmp_path):
    job = job_of(text_file, tmp_path)
    for event in job.events():
        if isinstance(event, Validated):
            break
    assert job.task.folder.steps() == [20]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_learns_a_rhyme(text_file, tmp_path, cell):
    job = job_of(text_file, tmp_path, cell=cell, steps=250, eval_every=125, num_layers=2, dropout=0.0)
    events = list(job.events())
    assert events[-1].reason == "budget"
    assert events[-1].best_nats < 0.2
    assert any(isinstance(event, Sampled) and event.text for event in events)


def test_resumed_equals_unbroken(text_file, tmp_path):
    unbroken = job_of(text_file, tmp_path, run="unbroken")
    for _ in unbroken.events():
        pass
    for stop_after in (1, 20, 33):
        name, seen = f"broken-{stop_after}", []
        first = job_of(text_file, tmp_path, run=name)
        for event in first.events(lambda seen=seen, after=stop_after: bool(seen) and seen[-1] >= after):
            if isinstance(event, loop.Trained):
                seen.append(event.step)
        assert isinstance(event, loop.Finished) and event.reason == "stopped"
        assert stop_after <= seen[-1] < 60
        second = start((), run=name, checkpoints=tmp_path, resume=True)
        assert list(second.events())[-1].reason == "budget"
        expected, found = weights(unbroken), weights(second)
        assert all((expected[name] == found[name]).all() for name in expected)
        assert curve(unbroken) == curve(second)


def test_what_is_left_out_is_told_less_and_less_often(text_file, tmp_path, monkeypatch):
    def sometimes_nan(state, batches, rates, count, settings):  # every other step
        losses = np.where((int(state.step) + np.arange(count)) % 2, 1.0, np.nan)
        return state._replace(step=state.step + count), losses, np.ones(count)

    monkeypatch.setattr(loop, "train_steps", sometimes_nan)
    job = job_of(text_file, tmp_path, steps=300, eval_every=300)
    warned = [event.text.split("; ")[1] for event in job.events() if isinstance(event, loop.Warned)]
    assert len(warned) == 3 and warned[0].startswith("the update is left out")
    assert warned[-1].startswith("the update is left out, 10")  # of 150
    trained = [event["skipped"] for event in job.task.folder.metrics() if event["event"] == "train"]
    assert trained[-1] == 150


def test_what_a_count_of_the_characters_says(text_file, tmp_path):
    text_file.write_text("a" * 900 + "b" * 100)  # what is held out is never seen: 900 a, and 1 more of a, b and an end
    assert job_of(text_file, tmp_path, documents="file").task.nats_of_frequencies == pytest.approx(math.log(903))
    text_file.write_text("ab\n" * 1000)
    lines = job_of(text_file, tmp_path, run="lines", documents="line")
    # Of 900 lines, an a, a b and an end each; the line feed is in the alphabet and no character of a document.
    assert lines.task.nats_of_frequencies == pytest.approx(math.log((2700 + 4) / (900 + 1)))


def test_a_new_budget_takes_the_place_of_the_old_ones(text_file, tmp_path):
    job = job_of(text_file, tmp_path, steps=20, epochs=0.1, minutes=5, eval_every=1000)
    (*_, finished) = job.events()
    again = start((), run=job.task.folder.name, checkpoints=tmp_path, resume=True, steps=finished.step + 7)
    training = again.task.config.training
    assert (training.steps, training.epochs, training.minutes) == (finished.step + 7, None, None)
    assert list(again.events())[-1].step == finished.step + 7


def test_there_is_a_step_to_go_back_to_from_the_first_validation_on(text_file, tmp_path):
    job = job_of(text_file, tmp_path, checkpoint_every=1000.0)
    saved = [event.step for event in job.events(samples=False) if isinstance(event, loop.Saved)]
    assert saved == [20, 60]


def test_no_sample_is_drawn_that_nobody_sees(text_file, tmp_path):
    for samples in (True, False):
        events = job_of(text_file, tmp_path, steps=20, run=str(samples)).events(samples=samples)
        assert any(isinstance(event, Sampled) for event in events) == samples


@pytest.mark.parametrize("spoilt", ["asked to stop", "not finite"])
def test_a_run_does_not_end_without_its_last_validation(text_file, tmp_path, monkeypatch, spoilt):
    job, asked, real, calls = job_of(text_file, tmp_path, steps=20, test_fraction=0.1), [], loop.validate, []

    def spoilt_validation(*arguments):
        calls.append(1)
        if len(calls) > 1:
            return real(*arguments)
        asked.append(spoilt == "asked to stop")
        return None if asked[0] else Validation(math.nan, math.nan, math.nan)

    monkeypatch.setattr(loop, "validate", spoilt_validation)
    *events, last = job.events(lambda: any(asked))
    if spoilt == "not finite":  # it went back and learnt once more, at a quarter of the rate
        assert (last.reason, last.step, math.isfinite(last.best_nats)) == ("budget", 20, True)
        (back,) = [event for event in job.task.folder.metrics() if event["event"] == "back"]
        (warned,) = [event.text for event in events if isinstance(event, loop.Warned)]
        usual = learning_rate(job.task.config.training, back["step"] / 20)
        assert warned.endswith(f"the learning rate at {usual / 4:.2g}")
        return
    assert (last.reason, last.step) == ("stopped", 20)
    *_, tested, last = start((), run=job.task.folder.name, checkpoints=tmp_path, resume=True).events()
    assert isinstance(tested, loop.Tested) and (last.reason, last.best_step) == ("budget", 20)
    assert [event["event"] for event in job.task.folder.metrics()] == ["train", "train", "validation", "test"]


def test_any_number_of_steps_a_call_is_the_same(text_file, tmp_path, monkeypatch):
    one_by_one = job_of(text_file, tmp_path, run="one")
    monkeypatch.setattr(loop, "_SECONDS_A_CALL", 0.0)
    for _ in one_by_one.events():
        pass
    monkeypatch.setattr(loop, "_SECONDS_A_CALL", 1e9)
    many = job_of(text_file, tmp_path, run="many")
    for _ in many.events():
        pass
    assert all((weights(one_by_one)[name] == array).all() for name, array in weights(many).items())
    assert curve(many) == curve(one_by_one)


def test_patience_ends_a_run(text_file, tmp_path):
    job = job_of(text_file, tmp_path, steps=10_000, eval_every=5, patience=2, learning_rate=1e-9)
    assert list(job.events())[-1].reason == "patience"


def test_a_budget_of_minutes_ends(text_file, tmp_path):
    job = job_of(text_file, tmp_path, steps=None, minutes=0.02)
    finished = list(job.events())[-1]
    assert finished.reason == "budget" and finished.step > 0


def test_a_loss_that_is_not_finite_stops_the_run(text_file, tmp_path, monkeypatch):
    def nan_steps(*arguments):
        state, losses, norms = train_steps(*arguments)
        return state, np.asarray(losses) * np.nan, norms

    monkeypatch.setattr(loop, "train_steps", nan_steps)
    job = job_of(text_file, tmp_path)
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        list(job.events())


def test_metrics_hold_it_all(text_file, tmp_path):
    job = job_of(text_file, tmp_path)
    list(job.events())
    lines = (job.task.folder.path / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert {"step", "loss", "gradient_norm", "learning_rate", "characters_per_second"} <= set(events[0])
    assert [event["step"] for event in events if event["event"] == "validation"] == [20, 40, 60]


def test_validation_is_one_pass_with_the_state_carried(text_file, tmp_path):
    job = job_of(text_file, tmp_path)
    network = initial_state(job.task.config, job.task.vocabulary.size).network
    positions = job.task.validation.positions
    batch = positions.look_up(np.arange(len(positions))[:, None])
    resets = batch.resets.copy()
    resets[0] = True
    logits, _ = jax.jit(lambda *window: network(*window, network.initial_carry(1)))(batch.inputs, resets)
    expected = float(negative_log_likelihood(logits, batch.targets).mean())
    assert validate(network, job.task.validation, "float32").nats == pytest.approx(expected, rel=1e-5)


def test_without_a_budget_the_rate_is_halved_and_then_the_run_ends(text_file, tmp_path):
    job = job_of(text_file, tmp_path, steps=None, patience=3, eval_every=2, learning_rate=1e-9)
    events = list(job.events())
    slowed = [event for event in events if isinstance(event, loop.Slowed)]
    assert [round(event.learning_rate / (0.5e-9 * min(1, (event.step + 1) / 100)), 6) for event in slowed] == [1.0]
    # The best at 4, where the network that knows nothing has got its temperature, then twice three in vain.
    assert (events[-1].reason, events[-1].step) == ("patience", 16)
    with pytest.raises(ConfigError, match="--patience must be at least 1"):
        start((), run=job.task.folder.name, checkpoints=tmp_path, resume=True, patience=0)


def test_what_is_kept_back_is_read_once_at_the_end_with_the_best_weights(text_file, tmp_path):
    job = job_of(text_file, tmp_path, steps=40, test_fraction=0.2)
    events = list(job.events())
    (tested,) = [event for event in events if isinstance(event, loop.Tested)]
    best = load(job.task.folder.path)
    (text,) = best.documents("test")
    whole = text_file.read_text("utf-8")
    assert whole.endswith(text) and len(text) == tested.characters == len(whole) - int(len(whole) * 0.8)
    assert tested.nats == pytest.approx(best.score(text).nats_per_character, rel=1e-5)
    assert "".join([*best.documents("train"), *best.documents("validation"), text]) == whole
    (line,) = [event for event in job.task.folder.metrics() if event["event"] == "test"]
    assert (line["nats"], line["best_step"]) == (tested.nats, best.validation["step"])
    untested = job_of(text_file, tmp_path, steps=2, run="untested")
    assert not [event for event in untested.events() if isinstance(event, loop.Tested)]
    with pytest.raises(ConfigError, match="--test-fraction"):
        load(untested.task.folder.path).documents("test")


def test_the_average_is_of_the_weights_so_far(tiny_config):
    settings = dataclasses.replace(StepSettings.of(tiny_config), dropout=NO_DROPOUT)  # as below: compiled once
    assert settings.ema > 0
    state, networks = place(initial_state(tiny_config, 11), settings), []
    random = np.random.default_rng(0)
    for _ in range(3):
        batch = Batch(*(random.integers(0, 11, (3, 8, 4), np.int32) for _ in range(2)), np.zeros((3, 8, 4), bool))
        state, _, _ = train_steps(state, batch, np.full(3, 0.1, np.float32), np.int32(1), settings)
        networks.append(np.array(state.network.head_kernel[...]))
    expected = networks[0]  # the first step replaces what was there before any
    for step in (1, 2):
        expected = expected + (networks[step] - expected) / (1 + settings.ema * step)
    np.testing.assert_allclose(state.learnt.head_kernel[...], expected, rtol=1e-5)
    plain = dataclasses.replace(tiny_config, training=dataclasses.replace(tiny_config.training, ema=0.0))
    assert initial_state(plain, 11).average is None


def test_the_nearest_budget_counts():
    training = TrainingConfig(steps=100, epochs=2, minutes=1)
    assert budget_spent(training, 10, 10, 0.0) == pytest.approx(0.5)
    assert budget_spent(training, 1000, 10, 45.0) == pytest.approx(0.75)
    assert budget_spent(training, 1000, 100, 0.0) == 1.0


def test_bfloat16_is_chosen_only_where_it_is_native(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("flags : fpu avx512_bf16 sse\n")
    assert _cpu_has_bfloat16(info)
    info.write_text("flags : fpu avx2\n")
    assert not _cpu_has_bfloat16(info)
    assert not _cpu_has_bfloat16(tmp_path / "none")
    found = [
        _accelerator_has_bfloat16(SimpleNamespace(compute_capability=one)) for one in ("7.5", "8.0", "10.0", "gfx90a")
    ]
    assert found == [False, True, True, True] and _accelerator_has_bfloat16(SimpleNamespace())


def test_a_kept_program_that_cannot_be_read_is_compiled_in_silence(tmp_path, monkeypatch):
    prefix = "jax_persistent_cache_min_"
    names = ("jax_compilation_cache_dir", prefix + "compile_time_secs", prefix + "entry_size_bytes")
    before = [getattr(jax.config, name) for name in names]
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path))
    try:
        keep_compiled_programs()
        compilation_cache.reset_cache()
        for _ in range(2):  # each a function of its own, so that only the folder knows the program
            assert float(jax.jit(lambda x: x * 3 + 1)(np.float32(2))) == 7
            (kept,) = (tmp_path / "compiled").glob("*-cache")
            kept.write_bytes(kept.read_bytes()[:-9])  # as one that is being written
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
