"""From texts and options to a trained run: everything that `charrnn train` does but show it."""

import dataclasses
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charrnn.checkpoint import WEIGHTS, Lock, RunFolder, check_name
from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig, from_options
from charrnn.errors import CheckpointError, ConfigError, CorpusError
from charrnn.fields import flag_of, on_one_line
from charrnn.model import Model, load
from charrnn.parts import split_as
from charrnn.runs import candidates, check_writable, create_run, locked, run_to_continue, unfinished_step
from charrnn.text.bundled import resolve_sources
from charrnn.text.corpus import Corpus, find_prepared, prepare
from charrnn.text.documents import STYLES, resolve_style, written
from charrnn.text.selection import vocabulary_of
from charrnn.text.vocabulary import FIRST_CHARACTER, NO_CHARACTERS, Vocabulary
from charrnn.training import loop
from charrnn.training.devices import resolve_precision, use_every_core
from charrnn.training.fine_tuning import (
    Ancestor,
    adapted_network,
    inherited_model,
    inherited_size,
    open_ancestor,
    reopen,
)
from charrnn.training.memory import check_memory
from charrnn.training.recipe import adapting, resolve, resolve_val_fraction, with_budget
from charrnn.training.speed import speed_of_this_machine
from charrnn.training.task import BUDGETS, CHANGEABLE, Task

_SAMPLE_CHARACTERS = 300


@dataclass(frozen=True)
class Sampled:
    """A text drawn from the model as it learns."""

    step: int
    text: str


@dataclass(frozen=True)
class Job:
    """A run that is ready to train, and locked. `notes` say what was noticed on the way."""

    task: Task
    corpus: Corpus
    notes: tuple[str, ...]
    resume: bool
    lock: Lock

    def events(
        self, should_stop: Callable[[], bool] = lambda: False, samples: bool = True
    ) -> Iterator[loop.Event | Sampled]:
        """Train, yielding what happens, with `samples` a text every `sample_every` validations. Releases the lock."""
        validations, every = 0, self.task.config.training.sample_every if samples else 0
        try:
            for event in loop.run(self.task, resume=self.resume, should_stop=should_stop):
                yield event
                if isinstance(event, loop.Validated):
                    validations += 1
                    if every and validations % every == 0 and not should_stop():
                        yield self._sample(event)
        finally:
            self.lock.release()

    def _sample(self, event: loop.Validated) -> Sampled:
        model = Model(self.task.config, self.task.vocabulary, event.network, {})
        seed = (self.task.config.training.seed + event.step) % 2**32  # another text each time
        drawn = model.sample(length=_SAMPLE_CHARACTERS, temperature=0.8, seed=seed)
        return Sampled(event.step, drawn[0].text)


def start(
    corpus: tuple[str, ...],
    *,
    run: str | None = None,
    checkpoints: Path = Path("checkpoints"),
    resume: bool = False,
    init_from: str | Path | None = None,
    go_on: Callable[[str, int], bool] = lambda name, step: True,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Job:
    """Prepare a new run, or the continuation of one, from the fields of the configurations.

    `init_from` is a run, its folder or a weights file to fine-tune: a new run starts from its network.
    go_on: asked, with the name and the last saved step, whether to go on with a run that was made
    by the same call and is not finished; else a new one is begun. Raises ConfigError, CorpusError,
    RunNotFoundError, CheckpointError, StorageError or (where there is no memory for it) TrainingError, before
    anything is trained.
    """
    _check_known(options)
    if run is not None:
        check_name(run)
    if resume and init_from is not None:
        raise ConfigError("--resume goes on with a run as it is; leave --init-from out")
    if resume:
        return _continue(corpus, run, checkpoints, options, progress)
    if not corpus:
        raise ConfigError(
            "give a text to learn: a file, a folder, - for a pipe, or a name that `charrnn corpora` lists"
        )
    check_writable(checkpoints)
    ancestor = None if init_from is None else open_ancestor(str(init_from), checkpoints)
    task, prepared, notes = _new_task(corpus, checkpoints, ancestor, options, progress)
    check_memory(task)
    for folder in candidates(corpus, run, checkpoints):
        step = unfinished_step(dataclasses.replace(task, folder=folder))
        if step is None:
            continue
        if not go_on(folder.name, step):
            break
        folder, lock, more = locked(folder)
        folder.write_config(dataclasses.replace(folder.config(), corpus=task.config.corpus))  # the text may have moved
        return Job(dataclasses.replace(task, folder=folder), prepared, (*notes, *more), True, lock)
    folder, lock = create_run(corpus, run, checkpoints, task.config, task.vocabulary)
    return Job(dataclasses.replace(task, folder=folder), prepared, tuple(notes), False, lock)


def _new_task(
    corpus: tuple[str, ...],
    checkpoints: Path,
    ancestor: Ancestor | None,
    options: dict[str, Any],
    progress: Callable[[int, int], None],
) -> tuple[Task, Corpus, list[str]]:
    """What a new run trains, from which prepared text, and what was noticed on the way."""
    data, model, training = _configurations(options, ancestor)
    prepared, data, notes = _prepare(corpus, data, progress)
    parts = split_as(prepared, data, training.seed)
    known = ancestor.vocabulary if ancestor else NO_CHARACTERS
    vocabulary = vocabulary_of(parts.train, data.min_count, data.max_vocab, known)
    training = with_budget(dataclasses.replace(training, precision=resolve_precision(training.precision)))
    timed = training.minutes or not training.has_budget
    speed = speed_of_this_machine(training.precision) if timed else None
    positions = (parts.train.positions, parts.validation.positions)
    model, training = resolve(model, training, *positions, vocabulary.size, speed)
    if options.get("reset_rate") and parts.train.whole_documents:
        notes.append("--reset-rate does nothing here: documents are learnt whole, and each begins from the zero state")
    origin = ancestor.origin if ancestor else None
    config = RunConfig(
        _sources(corpus), prepared.fingerprint, data, model, training, _versions(), origin, parts.train.whole_documents
    )
    network = None
    if ancestor:
        network = adapted_network(ancestor, vocabulary, training.seed)
        notes += _notes_on(ancestor, vocabulary, config, options)
    return Task.of(config, vocabulary, parts, RunFolder(checkpoints), network), prepared, notes


def _notes_on(ancestor: Ancestor, vocabulary: Vocabulary, config: RunConfig, options: dict[str, Any]) -> Iterator[str]:
    """What a run has from the one that it starts from and may surprise."""
    known = ancestor.vocabulary.size
    new = vocabulary.size - known
    joined = f"{new:,} new character{'s' * (new != 1)} joined its {known - FIRST_CHARACTER:,}"
    yield f"starts from {ancestor.origin.run}; {joined}"
    style, before = config.data.documents, ancestor.config
    if options.get("documents") is None:
        what = f"each {style} is a document" if style in STYLES else f"{style!r} ends a document"
        yield f"{what} as there; --documents {'line' if style == 'file' else 'file'} changes that"
    if config.corpus_hash == before.corpus_hash and _split_of(config) != _split_of(before):
        yield (
            "it learnt this same text with another --documents, --seed, --val-fraction or --test-fraction, "
            "so it knows some of what is held out here, and the figures flatter it"
        )


def _split_of(made: RunConfig) -> tuple[object, ...]:
    """What decides which part of a text is held out: of few documents, each of which is cut, no seed."""
    data = made.data
    seed = made.training.seed if made.documents_end else None
    return data.documents, data.val_fraction, data.test_fraction, seed


def _configurations(
    options: dict[str, Any], ancestor: Ancestor | None
) -> tuple[DataConfig, ModelConfig, TrainingConfig]:
    """The configurations that the options ask for; what a run is started from decides what they leave open."""
    data, training = from_options(DataConfig, options), from_options(TrainingConfig, options)
    if training.optimizer in ("adam", "sgd") and options.get("weight_decay"):
        raise ConfigError(f"--weight-decay does nothing for --optimizer {training.optimizer}; adamw and muon have it")
    if ancestor is None:
        if training.size != "auto" and options.get("hidden_size"):
            raise ConfigError(f"--size {training.size} is a width, and so is --hidden: give one of them")
        return data, from_options(ModelConfig, options), training
    if options.get("documents") is None:
        data = dataclasses.replace(data, documents=ancestor.config.data.documents)
    model, before = inherited_model(ancestor, options), ancestor.config.training
    training = dataclasses.replace(training, size=inherited_size(ancestor, training.size))
    adapted_before = ancestor.config.init_from is not None
    return data, model, adapting(training, before, model.hidden_size or 0, adapted_before)


def train(
    corpus: str | Path | list[str | Path], *, on_event: Callable[[Any], None] | None = None, **options: Any
) -> Model:
    """Train a model of a text and return the best one seen; `options` are those of `start`.

    `on_event` is called with each event of training. The run is kept below `checkpoints`. Where JAX was not used yet,
    it sees each core of the CPU as a device from then on, over which batches are split.
    """
    with suppress(RuntimeError):  # it was: then with the devices that it has
        use_every_core()
    sources = [corpus] if isinstance(corpus, str | Path) else corpus
    checkpoints = Path(options.pop("checkpoints", "checkpoints"))
    job = start(tuple(map(str, sources)), checkpoints=checkpoints, **options)
    for event in job.events(samples=on_event is not None):
        if on_event is not None:
            on_event(event)
    return load(job.task.folder.path)


def _continue(
    corpus: tuple[str, ...],
    run: str | None,
    checkpoints: Path,
    options: dict[str, Any],
    progress: Callable[[int, int], None],
) -> Job:
    folder = run_to_continue(corpus, run, checkpoints)
    folder, lock, notes = locked(folder)
    try:
        before, vocabulary = folder.config(), folder.vocabulary()
        if not folder.steps() and (folder.path / WEIGHTS).exists():
            raise CheckpointError(
                f"{folder.path}: its saved steps are gone, and beginning anew would replace its weights; "
                f"--init-from {folder.name} learns on from them in a new run"
            )
        config = _with_changes(before, options)
        if corpus:
            config = dataclasses.replace(config, corpus=_sources(corpus))
        if "-" not in config.corpus or corpus:
            prepared, _, more = _prepare(corpus or config.corpus, config.data, progress)
        else:
            prepared, more = _piped_before(folder, config), []
        if prepared.fingerprint != config.corpus_hash:
            raise CorpusError(
                f"the corpus is not the one that run {folder.name} learnt (its content changed); "
                "give the old text back, or start a new run without --resume"
            )
        parts, network = split_as(prepared, config.data, config.training.seed), None
        if config.init_from and not folder.steps():
            network = adapted_network(reopen(config.init_from), vocabulary, config.training.seed)
        task = Task.of(config, vocabulary, parts, folder, network)
        check_memory(task)
        if config != before:
            folder.write_config(config)
    except BaseException:
        lock.release()
        raise
    return Job(task, prepared, (*notes, *more), True, lock)


def _piped_before(folder: RunFolder, config: RunConfig) -> Corpus:
    """The text that a run read from a pipe, as it was prepared then."""
    data = config.data
    prepared = find_prepared(config.corpus_hash, data.documents, data.encoding, data.errors)
    if prepared is None:
        raise CorpusError(
            f"run {folder.name} read its text from a pipe and the cache no longer holds it; "
            f"pipe it again: ... | charrnn train - --resume --run {folder.name}"
        )
    return prepared


def _with_changes(config: RunConfig, options: dict[str, Any]) -> RunConfig:
    """The run's configuration with a new budget or rhythm; nothing else may change."""
    given = {name: value for name, value in options.items() if value not in (None, "auto")}
    if "documents" in given:
        given["documents"] = written(resolve_style(given["documents"], (), "utf-8", "strict"))
    for part in (config.data, config.model, config.training):
        for field in dataclasses.fields(part):
            if field.name in given and field.name not in CHANGEABLE and given[field.name] != getattr(part, field.name):
                own = on_one_line(getattr(part, field.name))
                raise ConfigError(f"{flag_of(field)} is {own} in this run and cannot change on --resume")
    changes = {name: value for name, value in given.items() if name in CHANGEABLE}
    if changes.keys() & BUDGETS:  # it takes the place of what the run had
        changes = dict.fromkeys(BUDGETS) | changes
    from_options(TrainingConfig, changes)
    training = dataclasses.replace(config.training, **changes)
    if not training.has_budget and not training.patience:
        raise ConfigError("this run has no budget, so --patience must be at least 1; or give --minutes")
    return dataclasses.replace(config, training=training)


def _prepare(
    corpus: tuple[str, ...], data: DataConfig, progress: Callable[[int, int], None]
) -> tuple[Corpus, DataConfig, list[str]]:
    sources, documents = resolve_sources(corpus, data.documents)
    prepared = prepare(sources, documents=documents, encoding=data.encoding, errors=data.errors, progress=progress)
    if prepared.style not in STYLES and np.diff(prepared.spans).sum() == prepared.characters:
        styles = ", ".join(STYLES)
        raise ConfigError(f"--documents {documents}: no style ({styles}), and as a separator it is not in the text")
    notes = []
    if documents == "auto":
        other = "line" if prepared.style == "file" else "file"
        notes.append(f"each {prepared.style} is a document; --documents {other} (or paragraph) changes that")
    if prepared.carriage_returns:
        notes.append("the text has carriage returns (\\r); they are kept and learnt like any character")
    data = dataclasses.replace(data, documents=written(prepared.style))
    return prepared, resolve_val_fraction(data, prepared.characters), notes


def _check_known(options: dict[str, Any]) -> None:
    known = {field.name for part in (DataConfig, ModelConfig, TrainingConfig) for field in dataclasses.fields(part)}
    if unknown := set(options) - known:
        raise ConfigError(f"no such option: {', '.join(sorted(unknown))}")


def _sources(corpus: tuple[str, ...]) -> tuple[str, ...]:
    """Where a run's text lies, as it is written down: files as they are found from anywhere."""
    return tuple(
        str(Path(source).absolute()) if source != "-" and Path(source).exists() else source for source in corpus
    )


def _versions() -> dict[str, str]:
    packages = ("charrnn", "jax", "flax", "optax", "numpy")
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in packages:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:  # run from a source checkout that is not installed
            found[package] = "source"
    return found
