"""Saved steps: the exact training state, written whole, checked when it is read.

A step is a folder `steps/<step>`, or `steps/<step>-<n>` when it was saved before, with `state.safetensors`
(arrays only), `progress.json` and `manifest.json`, which holds the size and SHA-256 of both. It is
written under another name and gets its own once all of it is on disk.
"""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from charrnn.checkpoint import files
from charrnn.checkpoint.arrays import first_line, read_arrays, serialized
from charrnn.checkpoint.reading import open_file
from charrnn.errors import CheckpointError, StorageError

STATE, PROGRESS, MANIFEST = "state.safetensors", "progress.json", "manifest.json"
_FORMAT = 1
_KEPT = 2
_NAME = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,9}))?", re.ASCII)
_LARGEST_JSON = 1 << 20

Read = TypeVar("Read")


@dataclass(frozen=True, order=True)
class SavedStep:
    """A saved step; `revision` counts the times the same step was saved before."""

    step: int
    revision: int
    path: Path


def saved_steps(folder: Path) -> list[SavedStep]:
    """The steps that are there under their own name, ascending."""
    try:
        names = [(_NAME.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(SavedStep(int(name[1]), int(name[2] or 0), path) for name, path in names if name)


def save(folder: Path, step: int, state: Any, progress: dict[str, Any], keep: Collection[int]) -> None:
    """Save a step, check what was written, then remove older ones: all but the newest two and those in `keep`.

    state: a pytree of NumPy arrays. Raises StorageError.
    """
    before = saved_steps(folder)
    revision = 1 + max((saved.revision for saved in before if saved.step == step), default=-1)
    name = f"{step}-{revision}" if revision else str(step)
    target, partial = folder / name, folder / f"partial-{name}"
    content = {STATE: serialized(_named(state)), PROGRESS: json.dumps(progress).encode()}
    content[MANIFEST] = _manifest(step, {file: _fingerprint(data) for file, data in content.items()})
    with files.writing(target, sum(map(len, content.values()))):
        try:
            files.remove(partial)
            files.make_folder(partial)
            for file, data in content.items():
                files.write(partial / file, data)
            files.sync(partial)
            files.rename(partial, target)
        except OSError:
            with contextlib.suppress(OSError):  # what it takes on a full disk is wanted elsewhere
                files.remove(partial)
            raise
        if damage := damage_of(SavedStep(step, revision, target)):
            raise StorageError(f"{target}: what was written does not read back ({damage}); the disk may be failing")
        for old in saved_steps(folder)[:-_KEPT]:
            if old.step not in keep or old.step == step:
                discard(old)


def discard(saved: SavedStep) -> None:
    """Remove a step; it loses its name first, so that it is never seen half removed."""
    removed = saved.path.with_name(f"removed-{saved.path.name}")
    files.remove(removed)
    files.rename(saved.path, removed)
    files.remove(removed)


def tidy(folder: Path) -> None:
    """Remove what a process that was killed left half written or half removed; make the folder if it is gone."""
    with files.writing(folder):
        files.make_folders(folder)
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(("partial-", "removed-")):
                files.remove(entry)


def set_aside(saved: SavedStep) -> Path:
    """Rename a damaged step so that it is no longer listed; returns its new path."""
    names = (f"damaged-{saved.path.name}" + (f"-{number}" if number else "") for number in itertools.count())
    aside = next(path for path in map(saved.path.with_name, names) if not path.exists())
    with files.writing(aside):
        files.rename(saved.path, aside)
    return aside


def damage_of(saved: SavedStep) -> str:
    """What is wrong with a step's files, or "" if they are to the byte what was saved."""
    try:
        found = {file: _fingerprint_of(saved.path / file) for file in (STATE, PROGRESS)}
        manifest = _head(saved.path / MANIFEST)
    except OSError as error:
        return f"{Path(error.filename or saved.path).name}: {error.strerror}"
    if manifest == _manifest(saved.step, found):
        return ""
    try:
        expected = json.loads(manifest.decode())["files"]
        wrong = [file for file, fingerprint in found.items() if expected[file] != fingerprint]
    except (ValueError, KeyError, TypeError, RecursionError):
        wrong = []
    if not wrong:
        return f"{MANIFEST} is damaged"
    return f"{wrong[0]} is damaged: its checksum is not the one in {MANIFEST}"


def load(saved: SavedStep, template: Any, read_progress: Callable[[Any], Read]) -> tuple[Any, Read]:
    """A step's state in the structure of `template`, and its progress as `read_progress` makes it of JSON.

    Raises CheckpointError, saying what is wrong with it.
    """
    if damage := damage_of(saved):
        raise CheckpointError(damage)
    progress = read_json(saved, read_progress)
    names = _named(template)
    arrays, _ = read_arrays(saved.path / STATE, lambda _: names)
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in names]), progress


def read_json(saved: SavedStep, read_progress: Callable[[Any], Read]) -> Read:
    """A step's progress as `read_progress` makes it of JSON. Raises CheckpointError."""
    try:
        return read_progress(json.loads(_head(saved.path / PROGRESS).decode()))
    except (OSError, AttributeError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{PROGRESS}: not what charrnn writes ({first_line(error)})") from error


def _head(path: Path) -> bytes:
    """A JSON file of a step, no more of it than one can rightly be large."""
    with open_file(path) as file:
        return file.read(_LARGEST_JSON)


def _manifest(step: int, fingerprints: dict[str, dict[str, Any]]) -> bytes:
    """The one manifest that these files can have: what differs from it in any byte is damaged."""
    return json.dumps({"format": _FORMAT, "step": step, "files": fingerprints}, indent=1, sort_keys=True).encode()


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _fingerprint_of(path: Path) -> dict[str, Any]:
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def host_copy(tree: Any) -> Any:
    """The same tree of NumPy arrays that nothing else can change or free."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)
