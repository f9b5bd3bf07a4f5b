"""The run folder: what is saved comes back to the bit, what is broken is named, names are checked."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from charrnn.checkpoint import Lock, RunFolder, check_name, files, find_run, free_names, list_runs, load_weights, run
from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from charrnn.errors import CheckpointError, ConfigError, RunNotFoundError, StorageError
from charrnn.nn.network import create, named_arrays, with_arrays
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.step import TrainState, initial_state

VOCABULARY = Vocabulary("abcé\U0001f600")
CONFIG = RunConfig(
    ("a.txt",), "0" * 64, DataConfig(documents="file", val_fraction=0.1),
    ModelConfig(hidden_size=6, embedding_size=3, dropout=0.0, num_layers=2),
    TrainingConfig(seq_length=8, batch_size=2, learning_rate=0.01, eval_every=5, precision="float32"), {},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make(tmp_path / "checkpoints", "one")


def make(checkpoints: Path, name: str) -> RunFolder:
    folder, lock = RunFolder.create(checkpoints, name, CONFIG, VOCABULARY)
    lock.release()
    return folder


def restore(folder: RunFolder, template: TrainState, on_warning=pytest.fail):
    return folder.restore(template, dict, on_warning)


def state_of(seed: int) -> TrainState:
    state, random = initial_state(CONFIG, VOCABULARY.size), np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 9).astype(leaf.dtype), state)


def equal(one: TrainState, other: TrainState) -> bool:
    return all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_what_made_the_run_comes_back(folder: RunFolder) -> None:
    assert (folder.config(), folder.vocabulary(), folder.name) == (CONFIG, VOCABULARY, "one")
    with pytest.raises(CheckpointError, match="of that name already"):
        make(folder.path.parent, "one")


def test_a_step_comes_back_to_the_bit_and_the_newest_two_are_kept(folder: RunFolder) -> None:
    states = {step: state_of(step) for step in (5, 10, 20)}
    for step, state in states.items():
        folder.save_step(step, state, {"elapsed": step / 3, "best_nats": float("inf")})
    assert folder.steps() == [10, 20]
    state, progress, step = restore(folder, initial_state(CONFIG, VOCABULARY.size))
    assert step == 20 and progress == {"elapsed": 20 / 3, "best_nats": float("inf")}
    assert equal(state, states[20]) and not equal(state, states[10])
    folder.save_step(20, states[5], {})
    assert equal(restore(folder, states[5])[0], states[5])


@pytest.mark.parametrize("damage", ["progress.json", "manifest.json", "state.safetensors", "missing", "cut", "number"])
def test_a_damaged_step_is_named_set_aside_and_the_one_before_used(folder: RunFolder, damage: str) -> None:
    folder.save_step(1, state_of(1), {})
    folder.save_step(2, state_of(2), {})
    newest = folder.path / "steps" / "2"
    if damage == "missing":
        (newest / "state.safetensors").unlink()
    elif damage == "cut":
        content = (newest / "state.safetensors").read_bytes()
        (newest / "state.safetensors").write_bytes(content[: len(content) // 2])
    elif damage == "number":
        newest = newest.rename(newest.with_name("3"))
    else:
        content = bytearray((newest / damage).read_bytes())
        content[len(content) // 2] ^= 1
        (newest / damage).write_bytes(content)
    warnings: list[str] = []
    state, _, step = restore(folder, state_of(0), warnings.append)
    assert step == 1 and equal(state, state_of(1)) and folder.steps() == [1]
    assert len(warnings) == 1 and str(newest) in warnings[0] and "going on from step 1" in warnings[0]
    assert newest.with_name(f"damaged-{newest.name}").is_dir()
    folder.save_step(2, state_of(5), {})
    for saved in folder.saved_steps():
        (saved.path / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no step loads: .*/2: manifest.*/1: manifest.*Nothing was del"):
        restore(folder, state_of(0), warnings.append)
    assert folder.steps() == [1, 2] and len(warnings) == 1


def test_a_step_of_another_shape_is_refused(folder: RunFolder) -> None:
    folder.save_step(1, state_of(1), {})
    other = initial_state(CONFIG, VOCABULARY.size + 1)
    with pytest.raises(CheckpointError, match=r"no step loads: .*F32 \(7,.*not F32 \(8,"):
        restore(folder, other)


def test_steps_that_are_wanted_are_kept_and_the_newest_two(folder: RunFolder) -> None:
    for step in range(1, 8):
        folder.save_step(step, state_of(step), {}, keep={2, 4})
    assert folder.steps() == [2, 4, 6, 7]
    folder.discard_after(4)
    assert folder.steps() == [2, 4]


def test_a_full_disk_says_what_is_needed_and_leaves_the_step_before(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save_step(1, state_of(1), {})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", fail)
    with pytest.raises(StorageError, match=r"steps/2: cannot be written \(No space.*needs [\d,]+ bytes and [\d,]+ are"):
        folder.save_step(2, state_of(2), {})
    assert folder.steps() == [1] and not list((folder.path / "steps").glob("partial*"))
    assert restore(folder, state_of(0))[2] == 1


def test_weights_travel_with_all_that_sampling_needs(folder: RunFolder, tmp_path: Path) -> None:
    network = create(CONFIG.model, VOCABULARY.size, 5)
    with pytest.raises(CheckpointError, match="not there yet"):
        load_weights(folder.path)
    folder.save_weights(network, {"step": 7, "nats": 1.25})
    copied = shutil.copy(folder.path / "model.safetensors", tmp_path / "copied.safetensors")
    for path in (folder.path, Path(copied)):
        config, vocabulary, loaded, validation = load_weights(path)
        assert (config, vocabulary, validation) == (CONFIG, VOCABULARY, {"step": 7, "nats": 1.25})
        expected, found = named_arrays(network), named_arrays(loaded)
        assert all((expected[name] == found[name]).all() for name in expected)


def test_broken_weights_are_refused_in_one_line(folder: RunFolder) -> None:
    folder.save_weights(create(CONFIG.model, VOCABULARY.size, 5), {})
    path = folder.path / "model.safetensors"
    whole, arrays = path.read_bytes(), load_file(path)
    metadata = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    bad_shape = arrays | {"head_bias": np.zeros(3, np.float32)}
    other_values = arrays | {"head_bias": arrays["head_bias"] + 1}
    rows = [
        (b"", "not a model of charrnn"),
        (np.random.default_rng(0).bytes(1000), "not a model of charrnn"),
        (whole[: len(whole) // 2], "not a model of charrnn"),
        (({"head_bias": arrays["head_bias"]}, metadata), "not those of the network"),
        ((bad_shape, metadata), r"head_bias is F32 \(3,\), not F32 \(7,\)"),
        ((other_values, metadata), "damaged: its checksum"),
        ((arrays, metadata | {"validation": "{}", "sha256": ""}), "damaged: its checksum"),
        ((arrays, None), "not a model of this version of charrnn"),
        ((arrays, metadata | {"vocabulary": "[]"}), "not a vocabulary"),
        ((arrays, metadata | {"config": "{}"}), "not a run's configuration"),
        ((arrays, metadata | {"config": CONFIG.to_json().replace('"hidden_size": 6', '"hidden_size": null')}),
         "it has no hidden_size"),
    ]  # fmt: skip
    for content, message in rows:
        path.write_bytes(content) if isinstance(content, bytes) else save_file(*content[:1], path, content[1])
        with pytest.raises(CheckpointError, match=message) as caught:
            load_weights(path)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused_by_name(folder: RunFolder) -> None:
    network = create(CONFIG.model, VOCABULARY.size, 5)
    broken = named_arrays(network) | {"head_bias": np.full(VOCABULARY.size, np.nan, np.float32)}
    folder.save_weights(with_arrays(network, broken), {})
    with pytest.raises(CheckpointError, match="head_bias holds values that are not finite"):
        load_weights(folder.path)


def test_metrics_have_neither_gap_nor_duplicate_after_a_resume(folder: RunFolder) -> None:
    assert folder.metrics() == []
    for step in range(5):
        folder.append_metrics({"event": "train", "step": step})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "tr')
    assert [event["step"] for event in folder.metrics()] == [0, 1, 2, 3, 4]
    folder.truncate_metrics(3)
    folder.append_metrics({"event": "train", "step": 3})
    assert [event["step"] for event in folder.metrics()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "\ud800", "a/b", "../a", "a\\b", "a\nb", "x" * 101, "é" * 60]
)
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--run"):
        check_name(name)


def test_more_files_than_can_be_read_back_are_refused(folder: RunFolder) -> None:
    many = dataclasses.replace(CONFIG, corpus=("x" * 100,) * 50_000)
    with pytest.raises(ConfigError, match="50,000 files are too many to name; give the folder"):
        folder.write_config(many)
    with pytest.raises(ConfigError, match="too many"):
        RunFolder.create(folder.path.parent, "two", many, VOCABULARY)
    assert folder.config() == CONFIG and [path.name for path in folder.path.parent.iterdir()] == ["one"]


def test_only_the_one_who_holds_the_lock_writes(folder: RunFolder) -> None:
    lock = Lock(folder.path)
    ours = RunFolder(folder.path, lock)
    ours.append_metrics({"event": "train"})
    with pytest.raises(CheckpointError, match=rf"process {os.getpid()} on .* is training this run"):
        Lock(folder.path)
    (folder.path / ".lock").unlink()  # somebody took it for a leftover
    Lock(folder.path)
    for write in (lambda: ours.append_metrics({}), lambda: ours.save_step(1, state_of(1), {}), ours.tidy,
                  lambda: ours.truncate_metrics(0), lambda: ours.discard_after(0),
                  lambda: ours.write_config(CONFIG)):  # fmt: skip
        with pytest.raises(StorageError, match="moved, removed or made anew while this training ran"):
            write()
    assert ours.steps() == [] and len(ours.metrics()) == 1
    lock.release()
    lock.release()


def test_a_full_disk_leaves_nothing_of_a_run_that_could_not_be_made(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *rest: object) -> int:
        if Path(path).name == ".lock":
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    real = os.open
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(
        StorageError, match=r"lock: cannot be written \(No space.*; make room and give the same command"
    ):
        make(folder.path.parent, "two")
    assert [path.name for path in folder.path.parent.iterdir()] == ["one"]


def test_what_may_not_be_read_is_named(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run, "open_file", refuse)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: cannot be read \(Permission denied\)"):
        folder.metrics()

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(CheckpointError, match=r"one: cannot be read \(Permission denied\)"):
        find_run("one", folder.path.parent)


def test_runs_are_found_by_name_by_path_and_by_age(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(RunNotFoundError, match="no runs in"):
        find_run(None, checkpoints)
    for name in ("fables", "café 1"):
        make(checkpoints, name)
    assert find_run("fables", checkpoints) == checkpoints / "fables" == find_run(str(checkpoints / "fables"), Path("x"))
    folder = RunFolder(checkpoints / "fables")
    folder.save_weights(create(CONFIG.model, VOCABULARY.size, 0), {})
    assert find_run(None, checkpoints) == checkpoints / "fables"
    assert [run.name for run in list_runs(checkpoints)] == ["café 1", "fables"]
    with pytest.raises(RunNotFoundError, match="did you mean fables"):
        find_run("fable", checkpoints)
    assert [next(free_names(checkpoints, name)) for name in ("fables", "new")] == ["fables-2", "new"]


@pytest.mark.parametrize("moment", ["before it is locked", "after"])
def test_a_run_that_another_process_makes_at_the_same_time_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def theirs(partial: Path) -> Lock:
        held = None if moment == "before it is locked" else Lock(partial)
        partial.rename(tmp_path / "one")
        return held or Lock(partial)

    monkeypatch.setattr(run, "Lock", theirs)
    with pytest.raises(CheckpointError, match="one: there is something of that name already"):
        RunFolder.create(tmp_path, "one", CONFIG, VOCABULARY)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_run_whose_own_folder_cannot_be_made_durable_is_no_other_process_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = files.sync

    def failing(path: Path) -> None:
        if path == tmp_path:  # where the folder has just got its name
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(files, "sync", failing)
    with pytest.raises(StorageError, match="Input/output error"):
        RunFolder.create(tmp_path, "one", CONFIG, VOCABULARY)
