"""Which run a call means: a new one, or one that was begun before."""

import dataclasses
import os
import re
from pathlib import Path

from charrnn.checkpoint import Lock, RunFolder, find_run, free_names, list_runs
from charrnn.checkpoint.weights import WEIGHTS
from charrnn.config import RunConfig
from charrnn.errors import CheckpointError, ConfigError, RunNotFoundError, StorageError
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.progress import Progress
from charrnn.training.task import Task, reason_to_end


def candidates(corpus: tuple[str, ...], run: str | None, checkpoints: Path) -> list[RunFolder]:
    """The runs that the same call may have begun before: the named one, or the corpus's, newest first."""
    return [RunFolder(checkpoints / run)] if run else _runs_of(corpus, checkpoints)[::-1]


def unfinished_step(task: Task) -> int | None:
    """The last saved step of a run of that very configuration, None where it is another's or finished.

    None too where its saved steps are gone and its weights are there: beginning it anew would replace them.
    """
    try:
        found = task.folder.config()
    except CheckpointError:
        return None
    if _what_it_learns(found) != _what_it_learns(task.config):
        return None
    last = task.folder.last_progress(Progress.from_json)
    if last is None and (task.folder.path / WEIGHTS).exists():
        return None
    step, progress = last or (0, Progress())
    return None if reason_to_end(task, step, progress) else step


def _what_it_learns(config: RunConfig) -> RunConfig:
    """A configuration without what may differ in the same run: where its text lies and what it is run with."""
    return dataclasses.replace(config, versions={}, corpus=())


def run_to_continue(corpus: tuple[str, ...], run: str | None, checkpoints: Path) -> RunFolder:
    """The named run, else the newest, else (with a corpus) the newest that is named after the corpus."""
    if run is None and corpus:
        runs = _runs_of(corpus, checkpoints)
        if not runs:
            raise RunNotFoundError(f"no run of {corpus[0]} in {checkpoints} to resume; leave --resume out to start one")
        return runs[-1]
    path = find_run(run, checkpoints)
    if not path.is_dir():
        raise ConfigError(f"{path}: a weights file cannot be resumed; give a run")
    return RunFolder(path)


def create_run(
    corpus: tuple[str, ...], run: str | None, checkpoints: Path, config: RunConfig, vocabulary: Vocabulary
) -> tuple[RunFolder, Lock]:
    """Make a new run's folder, of the given name or the first free one of the corpus's, and lock it."""
    if run is not None and (checkpoints / run).exists():
        raise ConfigError(f"--run {run}: {checkpoints / run} exists; give --resume to go on with it, or another name")
    names = iter((run,)) if run is not None else free_names(checkpoints, _name_for(corpus))
    while True:
        try:
            folder, lock = RunFolder.create(checkpoints, next(names), config, vocabulary)
            return RunFolder(folder.path, lock), lock
        except CheckpointError:  # another process took that name, or is about to
            if run is not None:
                raise


def locked(folder: RunFolder) -> tuple[RunFolder, Lock, list[str]]:
    """A run, its lock, and a note where the file system has none."""
    lock, notes = Lock(folder.path), []
    if not lock.held:
        notes.append(f"{folder.path} is on a file system without locks; do not train it twice at the same time")
    return RunFolder(folder.path, lock), lock, notes


def check_writable(folder: Path) -> None:
    """Raise StorageError when a folder can neither be written nor made, before any work is done."""
    try:
        there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
        usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be used ({error.strerror}); try another --checkpoints DIR") from error
    if not usable:
        why = "may not be written to" if there.is_dir() else "is no folder"
        raise StorageError(f"{folder}: {there} {why}; give another place with --checkpoints DIR")


def _runs_of(corpus: tuple[str, ...], checkpoints: Path) -> list[RunFolder]:
    """The runs that are named after a corpus, the one last written last."""
    stem = re.escape(_name_for(corpus))
    return [folder for folder in list_runs(checkpoints) if re.fullmatch(rf"{stem}(-\d+)?", folder.name)]


def _name_for(corpus: tuple[str, ...]) -> str:
    stem = "piped" if corpus[0] == "-" else Path(corpus[0]).absolute().stem
    return re.sub(r"[^\w.-]+", "-", stem)[:60].strip("-.") or "run"
