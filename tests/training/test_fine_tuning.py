"""Fine-tuning: what a run knows stays to the bit, new characters join, contradictions are refused."""

import dataclasses
import itertools
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from charrnn.checkpoint import RunFolder, load_weights
from charrnn.config import ModelConfig, Origin, RunConfig, TrainingConfig, validate
from charrnn.errors import CheckpointError, ConfigError
from charrnn.model import load
from charrnn.nn.cells import CELLS
from charrnn.nn.network import Network, create, named_arrays, with_arrays
from charrnn.text.vocabulary import FIRST_CHARACTER, Vocabulary
from charrnn.trainer import Job, start
from charrnn.training import loop
from charrnn.training.fine_tuning import Ancestor, adapted_network, inherited_model
from charrnn.training.recipe import adapting

OLD, NEW = Vocabulary("abcé"), Vocabulary("abcé!Z")
RHYME = "the cat sat on the mat and the dog sat on the log.\n"
ADAPTED_TEXT = "le café est là, the cat sat on the log!\n" * 40


def ancestor_of(config: RunConfig, model: ModelConfig) -> Ancestor:
    config = dataclasses.replace(config, model=model)
    random, template = np.random.default_rng(4), template_of(model, OLD)
    arrays = {
        name: random.normal(size=array.shape).astype(np.float32) for name, array in named_arrays(template).items()
    }
    return Ancestor(config, OLD, with_arrays(template, arrays), Origin("/runs/old", "0" * 64))


def template_of(model: ModelConfig, vocabulary: Vocabulary) -> Network:
    """The shapes of a network's arrays; initialising them takes longer."""
    return jax.eval_shape(lambda: create(model, vocabulary.size, 0))


@pytest.mark.parametrize(("cell", "embedding"), list(itertools.product(CELLS, (0, 3))))
def test_old_rows_stay_and_new_ones_are_like_the_mean(tiny_config: RunConfig, cell: str, embedding: int) -> None:
    if cell == "mogrifier-lstm" and not embedding:
        pytest.skip("its inputs are vectors")
    model = ModelConfig(cell=cell, hidden_size=5, embedding_size=embedding, dropout=0.0, num_layers=2)
    ancestor = ancestor_of(tiny_config, model)
    before = named_arrays(ancestor.network)
    network = adapted_network(ancestor, NEW, seed=0)
    after, template = named_arrays(network), named_arrays(template_of(model, NEW))
    grown = {"head_kernel": 1, "head_bias": 0, "embedding" if embedding else "layers.0.input_kernel": 0}
    assert {name: array.shape for name, array in after.items()} == {n: array.shape for n, array in template.items()}
    for name, array in after.items():
        if name not in grown:
            np.testing.assert_array_equal(array, before[name])
            continue
        by_character = np.moveaxis(np.asarray(array), grown[name], 0)
        known = np.moveaxis(np.asarray(before[name]), grown[name], 0)
        np.testing.assert_array_equal(by_character[: OLD.size], known)
        away = np.abs(by_character[OLD.size :] - known[FIRST_CHARACTER:].mean(0)) / (
            known[FIRST_CHARACTER:].std(0) + 1e-9
        )
        assert away.max() < 0.5
        assert known.std() == 0 or (by_character[-1] != by_character[-2]).any()
    again = adapted_network(ancestor, NEW, seed=0)
    assert all((after[name] == array).all() for name, array in named_arrays(again).items())


def test_a_permuted_vocabulary_is_impossible(tiny_config: RunConfig) -> None:
    ancestor = ancestor_of(tiny_config, tiny_config.model)
    for characters in ("bacé!Z", "abc", "!abcé"):
        with pytest.raises(AssertionError, match="ids never change"):
            adapted_network(ancestor, Vocabulary(characters), seed=0)


@pytest.mark.parametrize(("options", "flag"), [
    ({"cell": "gru"}, "--cell gru"),
    ({"hidden_size": 9}, "--hidden 9"),
    ({"num_layers": 2}, "--layers 2"),
    ({"embedding_size": 0}, "--embedding 0"),
    ({"forget_bias": 2.0}, "--forget-bias 2.0"),
    ({"residual": True}, "--residual True"),
])  # fmt: skip
def test_options_that_contradict_the_run_are_refused(tiny_config: RunConfig, options: dict, flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag} contradicts --init-from: .* leave it out$"):
        inherited_model(ancestor_of(tiny_config, tiny_config.model), options)


def test_options_that_agree_or_are_about_learning_are_taken(tiny_config: RunConfig) -> None:
    ancestor = ancestor_of(tiny_config, tiny_config.model)
    of_the_new_text = dataclasses.replace(tiny_config.model, dropout=None, weight_drop=None)
    assert inherited_model(ancestor, {}) == of_the_new_text  # how much to drop follows from it
    assert inherited_model(ancestor, {"dropout": tiny_config.model.dropout}).dropout == tiny_config.model.dropout
    given = {"hidden_size": 8, "cell": "lstm", "dropout": 0.5, "weight_drop": 0.2, "variational": True, "steps": 4}
    model = inherited_model(ancestor, given)
    assert model == dataclasses.replace(tiny_config.model, dropout=0.5, weight_drop=0.2, variational=True)
    validate(model)
    ancestor = ancestor_of(tiny_config, dataclasses.replace(tiny_config.model, dropout=0.2, variational=True))
    assert inherited_model(ancestor, {}).variational
    assert not inherited_model(ancestor, {"dropout": 0.0}).variational
    with pytest.raises(ConfigError, match="--variational is a way to drop units"):
        inherited_model(ancestor, {"dropout": 0.0, "variational": True})
    with pytest.raises(ConfigError, match="--dropout must be less than 1"):
        inherited_model(ancestor, {"dropout": 1.5})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("old")
    (folder / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    job = start(
        (str(folder / "rhyme.txt"),), run="old", checkpoints=folder / "runs", hidden_size=16, seq_length=16,
        batch_size=4, steps=80, eval_every=40, precision="float32", learning_rate=0.01, documents="file",
        sample_every=0, dropout=0.2, weight_drop=0.1,
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        list(job.events())
    return job


@pytest.fixture
def old_run(trained: Job, tmp_path: Path) -> Job:
    """The trained run, copied to where a test may spoil it."""
    shutil.copytree(trained.task.folder.path.parent, tmp_path / "runs")
    task = dataclasses.replace(trained.task, folder=RunFolder(tmp_path / "runs" / "old"))
    return dataclasses.replace(trained, task=task)


def adapt(old: Job, tmp_path: Path, **options: object) -> Job:
    (tmp_path / "new.txt").write_text(ADAPTED_TEXT, "utf-8")
    settings = {"init_from": "old", "seq_length": 16, "batch_size": 4, "precision": "float32", "sample_every": 0,
                "dropout": 0.2, "weight_drop": 0.1}  # fmt: skip
    checkpoints = old.task.folder.path.parent
    return start((str(tmp_path / "new.txt"),), checkpoints=checkpoints, **(settings | options))  # type: ignore[arg-type]


def test_a_run_goes_on_with_another_text(old_run: Job, tmp_path: Path) -> None:
    job = adapt(old_run, tmp_path, steps=60, eval_every=30)
    config, old = job.task.config, old_run.task
    assert config.model == old.config.model and config.data.documents == "file"
    assert config.training.learning_rate == pytest.approx(0.01 * 0.3)
    assert job.task.vocabulary.characters == old.vocabulary.characters + "!,fàé"
    assert config.init_from is not None and config.init_from.run == str(old.folder.path)
    assert any("5 new characters joined its" in note for note in job.notes)
    assert any(note == "each file is a document as there; --documents line changes that" for note in job.notes)
    validations = [event for event in job.events() if isinstance(event, loop.Validated)]
    assert [event.step for event in validations] == [0, 30, 60]
    assert [event.temperature for event in validations[:2]] == [1.0, 1.0]  # of the new text the old run knows nothing
    assert validations[0].nats < 0.7 * math.log(job.task.vocabulary.size)  # it knows much of it already
    assert validations[0].nats > validations[1].nats > validations[2].nats
    again = load(job.task.folder.path)
    assert again.config.init_from == config.init_from and again.unknown(ADAPTED_TEXT) == []
    with pytest.raises(ConfigError, match="leave --init-from out"):
        start((), run="new", checkpoints=tmp_path / "runs", resume=True, init_from="old")


def test_the_defaults_suit_what_is_nearly_known(old_run: Job, tmp_path: Path) -> None:
    training = adapt(old_run, tmp_path).task.config.training
    assert (training.minutes, training.epochs, training.size) == (1.0, 12.0, old_run.task.config.training.size)
    with pytest.raises(ConfigError, match=r"--size large contradicts --init-from"):
        adapt(old_run, tmp_path, size="large")


def test_a_run_stopped_before_its_first_step_is_not_validated_twice(old_run: Job, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(ADAPTED_TEXT, "utf-8")
    call = {"run": "adapted", "checkpoints": tmp_path, "init_from": old_run.task.folder.path, "steps": 2,
            "documents": "file", "sample_every": 0, "eval_every": 2, "seq_length": 16, "batch_size": 4,
            "precision": "float32", "dropout": 0.2, "weight_drop": 0.1}  # fmt: skip
    for stopped in (True, False):
        job = start((str(tmp_path / "new.txt"),), **call)
        validated: list[loop.Validated] = []
        for event in job.events(lambda: stopped and bool(validated)):  # noqa: B023
            validated += [event] if isinstance(event, loop.Validated) else []
        assert job.resume != stopped
    kinds = [(event["event"], event["step"]) for event in job.task.folder.metrics()]
    assert kinds == [("validation", 0), ("train", 2), ("validation", 2)]


def test_a_run_that_saved_nothing_starts_again_from_where_it_came(old_run: Job, tmp_path: Path) -> None:
    first = adapt(old_run, tmp_path, steps=20, run="first")
    first.lock.release()
    again = start((), run="first", checkpoints=tmp_path / "runs", resume=True)
    again.lock.release()
    expected, found = named_arrays(first.task.network), named_arrays(again.task.network)  # type: ignore[arg-type]
    assert all((expected[name] == array).all() for name, array in found.items())
    weights = old_run.task.folder.path / "model.safetensors"
    old_run.task.folder.save_weights(load_weights(weights)[2], {"step": 99})
    with pytest.raises(CheckpointError, match="has changed since; start anew"):
        start((), run="first", checkpoints=tmp_path / "runs", resume=True)
    weights.unlink()
    with pytest.raises(CheckpointError, match="what the run starts from cannot be read"):
        start((), run="first", checkpoints=tmp_path / "runs", resume=True)


def test_the_old_network_is_what_a_run_goes_back_to(
    old_run: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real, seen = adapt(old_run, tmp_path, steps=40, eval_every=20), loop.train_steps, list[bool]()

    def diverges_at_first(*arguments):
        state, losses, norms = real(*arguments)
        seen.append(True)
        return state, losses + (np.nan if 1 < len(seen) < 12 else 0), norms

    monkeypatch.setattr(loop, "train_steps", diverges_at_first)
    monkeypatch.setattr(loop, "_MOST_STEPS_A_CALL", 1)
    events = list(job.events())
    (back,) = [event.text for event in events if isinstance(event, loop.Warned) and "back to step" in event.text]
    assert "back to step 0 " in back
    (first, *_, last) = [event.nats for event in events if isinstance(event, loop.Validated)]
    assert last < first < 0.7 * math.log(job.task.vocabulary.size)
    with pytest.raises(CheckpointError, match="no step is left to go back to"):
        dataclasses.replace(job.task, network=None).first_state()


def test_a_rate_is_lowered_once() -> None:
    before = TrainingConfig(learning_rate=0.01)
    rates = [adapting(TrainingConfig(steps=9), before, 64, again).learning_rate for again in (False, True)]
    assert rates == pytest.approx([0.003, 0.01])


def test_that_the_text_is_known_already_is_told(old_run: Job) -> None:
    config, runs = old_run.task.config, old_run.task.folder.path.parent
    others = [({}, False), ({"seed": 1}, False), ({"test_fraction": 0.2}, True), ({"documents": "line"}, True)]
    for number, (options, told) in enumerate(others):
        job = start(config.corpus, run=f"same-{number}", checkpoints=runs, init_from="old", steps=5, **options)
        assert any("the figures flatter it" in note for note in job.notes) == told, options
