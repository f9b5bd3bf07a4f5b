"""Runs by name, by path and by age."""

import difflib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from charrnn.checkpoint.run import CONFIG, RunFolder
from charrnn.checkpoint.weights import WEIGHTS
from charrnn.errors import CheckpointError, ConfigError, RunNotFoundError

_LONGEST_NAME = 100


def check_name(name: str) -> None:
    """Raise ConfigError for a run name that is not one plain folder name."""
    if not name or name.startswith(".") or any(character in "/\\" or ord(character) < 32 for character in name):
        raise ConfigError(
            f"--run {name!r}: a run's name is one folder name, without slashes or control characters or a dot in front"
        )
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise ConfigError(f"--run {name!r}: this system cannot write that as a folder's name") from None
    if length > _LONGEST_NAME:
        raise ConfigError(f"--run {name[:20]}...: too long; a run's name has at most {_LONGEST_NAME} bytes")


def free_names(checkpoints: Path, wanted: str) -> Iterator[str]:
    """Those of `wanted`, `wanted-2`, `wanted-3`, ... that are not taken."""
    names = itertools.chain((wanted,), (f"{wanted}-{number}" for number in itertools.count(2)))
    return (name for name in names if not os.path.lexists(checkpoints / name))


def list_runs(checkpoints: Path) -> list[RunFolder]:
    """The runs below a folder, the one last written last."""
    found = [RunFolder(config.parent) for config in checkpoints.glob(f"*/{CONFIG}") if config.parent.name[0] != "."]
    return sorted(found, key=lambda folder: (_written(folder.path), folder.name))


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # removed since it was listed
        return 0


def find_run(name: str | None, checkpoints: Path, *, to_read: bool = False) -> Path:
    """A run's folder or a weights file: by name below `checkpoints`, by path, or the newest run.

    With `to_read` the newest is the newest that has weights, if any has. Raises RunNotFoundError,
    saying what there is.
    """
    runs = list_runs(checkpoints)
    if name is None:
        if not runs:
            raise RunNotFoundError(f"no runs in {checkpoints} yet; charrnn train makes one")
        with_weights = [run for run in runs if (run.path / WEIGHTS).exists()] if to_read else []
        return (with_weights or runs)[-1].path
    for path in (checkpoints / name, Path(name)):
        if _is_run(path):
            return path
    names = [run.name for run in runs]
    close = difflib.get_close_matches(name, names, 1)
    there_is = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names[-8:]) or 'none yet'}"
    raise RunNotFoundError(f"no run called {name[:_LONGEST_NAME]} in {checkpoints}; {there_is}")


def _is_run(path: Path) -> bool:
    try:
        return (path / CONFIG).is_file() or (path.is_file() and path.suffix == ".safetensors")
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (OSError, ValueError):  # a NUL, a lone surrogate, or longer than any name may be
        return False
