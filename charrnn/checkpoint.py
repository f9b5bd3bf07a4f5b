"""One run folder: its configuration, its metrics, its exact training states and its best weights."""

import contextlib
import difflib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from charrnn.config import RunConfig
from charrnn.errors import CheckpointError, ConfigError, RunNotFoundError
from charrnn.nn.network import Network, create, named_arrays, with_arrays
from charrnn.text.vocabulary import Vocabulary

CONFIG, VOCABULARY, METRICS, WEIGHTS, STEPS = (
    "config.json", "vocabulary.json", "metrics.jsonl", "model.safetensors", "steps"
)  # fmt: skip
_WEIGHTS_FORMAT = "charrnn 1"
_STEPS_KEPT = 2
_LONGEST_NAME = 100


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @classmethod
    def create(cls, checkpoints: Path, name: str, config: RunConfig, vocabulary: Vocabulary) -> "RunFolder":
        """Make the folder of a new run. Raises CheckpointError when it exists or cannot be written."""
        check_name(name)
        folder = cls(checkpoints / name)
        try:
            checkpoints.mkdir(parents=True, exist_ok=True)
            folder.path.mkdir()
        except FileExistsError:
            raise CheckpointError(f"{folder.path}: there is something of that name already") from None
        except OSError as error:
            raise _cannot_write(folder.path, error) from error
        folder._write(VOCABULARY, vocabulary.to_json().encode())
        folder.write_config(config)
        return folder

    def config(self) -> RunConfig:
        """What made the run. Raises CheckpointError when it cannot be read."""
        try:
            return RunConfig.from_json((self.path / CONFIG).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise CheckpointError(f"{self.path / CONFIG}: cannot be read ({error})") from error

    def write_config(self, config: RunConfig) -> None:
        """Write the configuration, whole or not at all."""
        self._write(CONFIG, config.to_json().encode())

    def vocabulary(self) -> Vocabulary:
        """The characters of the run. Raises CheckpointError when they cannot be read."""
        try:
            return Vocabulary.from_json((self.path / VOCABULARY).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, CheckpointError) as error:
            raise CheckpointError(f"{self.path / VOCABULARY}: cannot be read ({error})") from error

    def save_step(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Keep the exact training state of a step; it is listed only once it is whole and on disk.

        state: a pytree of arrays. progress: what else the loop remembers, as JSON. The newest two
        steps are kept.
        """
        target, partial = self.path / STEPS / str(step), self.path / STEPS / f"partial-{step}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            (partial / "progress.json").write_text(json.dumps(progress), "utf-8")
            _save_arrays(partial.absolute() / "state", _numbered(state))
            _sync_tree(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _sync(target.parent)
            for old in self.steps()[:-_STEPS_KEPT]:
                shutil.rmtree(self.path / STEPS / str(old))
        except OSError as error:
            raise _cannot_write(target, error) from error

    def steps(self) -> list[int]:
        """The steps that are kept, ascending."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(entry.name) for entry in (self.path / STEPS).iterdir() if entry.name.isdecimal())
        return []

    def restore(self, template: Any, on_warning: Callable[[str], None]) -> tuple[Any, dict[str, Any], int]:
        """The newest step that loads: its state in the structure of `template`, its progress, its number.

        A step that does not load is named through `on_warning` and the one before is tried. Raises
        CheckpointError when none loads; nothing is deleted.
        """
        failures = []
        for step in reversed(self.steps()):
            folder = self.path / STEPS / str(step)
            try:
                progress = json.loads((folder / "progress.json").read_text("utf-8"))
                arrays = _load_arrays(folder.absolute() / "state", _numbered(template))
                leaves = [arrays[key] for key in _numbered(template)]
                state = jax.tree.unflatten(jax.tree.structure(template), leaves)
            except Exception as error:  # whatever a damaged file makes the readers raise
                failures.append(f"{folder} ({_first_line(error)})")
                continue
            if failures:
                on_warning(f"damaged and passed over: {', '.join(failures)}; going on from step {step}")
            return state, progress, step
        raise CheckpointError(f"{self.path}: no step loads: {'; '.join(failures) or 'none was saved'}")

    def save_weights(self, network: Network, validation: dict[str, Any]) -> None:
        """Write `model.safetensors`: the weights, with all that sampling needs in its metadata."""
        from safetensors.numpy import save

        metadata = {
            "format": _WEIGHTS_FORMAT,
            "config": (self.path / CONFIG).read_text("utf-8"),
            "vocabulary": (self.path / VOCABULARY).read_text("utf-8"),
            "validation": json.dumps(validation),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in named_arrays(network).items()}
        self._write(WEIGHTS, save(arrays, metadata))

    def append_metrics(self, event: dict[str, Any]) -> None:
        """Add one event to `metrics.jsonl`."""
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            raise _cannot_write(self.path / METRICS, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The events so far; a last line that was cut short is left out."""
        return list(self._read_metrics())

    def _read_metrics(self) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError), (self.path / METRICS).open(encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def truncate_metrics(self, step: int) -> None:
        """Drop the events after a step, which a resumed run will write again."""
        kept = [event for event in self.metrics() if event.get("step", 0) <= step]
        self._write(METRICS, "".join(json.dumps(event) + "\n" for event in kept).encode())

    def _write(self, name: str, content: bytes) -> None:
        """Write a file so that a reader finds the old content or the new, whole and on disk."""
        target, partial = self.path / name, self.path / f".{name}.partial"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _cannot_write(target, error) from error


def check_name(name: str) -> None:
    """Raise ConfigError for a run name that is not one plain folder name."""
    if not name or name in (".", "..") or any(character in "/\\" or ord(character) < 32 for character in name):
        raise ConfigError(f"--run {name!r}: a run's name is one folder name, without slashes or control characters")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise ConfigError(f"--run {name[:20]}...: too long; a run's name has at most {_LONGEST_NAME} bytes")


def free_name(checkpoints: Path, wanted: str) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, ... that is not taken."""
    name, number = wanted, 1
    while (checkpoints / name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return name


def list_runs(checkpoints: Path) -> list[RunFolder]:
    """The runs below a folder, the one last written last."""
    found = [RunFolder(config.parent) for config in checkpoints.glob(f"*/{CONFIG}")]
    return sorted(found, key=lambda folder: (folder.path.stat().st_mtime_ns, folder.name))


def find_run(name: str | None, checkpoints: Path) -> Path:
    """A run's folder or a weights file: by name below `checkpoints`, by path, or the newest run.

    Raises RunNotFoundError, saying what there is.
    """
    runs = list_runs(checkpoints)
    if name is None:
        if not runs:
            raise RunNotFoundError(f"no runs in {checkpoints} yet; charrnn train makes one")
        return runs[-1].path
    for path in (checkpoints / name, Path(name)):
        if (path / CONFIG).is_file() or (path.is_file() and path.suffix == ".safetensors"):
            return path
    names = [run.name for run in runs]
    close = difflib.get_close_matches(name, names, 1)
    there_is = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names[-8:]) or 'none yet'}"
    raise RunNotFoundError(f"no run called {name} in {checkpoints}; {there_is}")


def load_weights(path: Path) -> tuple[RunConfig, Vocabulary, Network, dict[str, Any]]:
    """Read a run folder's best weights, or a `model.safetensors` file.

    Raises CheckpointError, in one line, for whatever is wrong with it.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.exists():
        raise CheckpointError(f"{file}: not there yet; it is written at the first validation of the training")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        config = RunConfig.from_json(metadata["config"])
        vocabulary = Vocabulary.from_json(metadata["vocabulary"])
        validation = json.loads(metadata["validation"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not a model of charrnn ({_first_line(error)})") from error
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config, vocabulary, _network_of(file, config, vocabulary, arrays), validation


def _network_of(file: Path, config: RunConfig, vocabulary: Vocabulary, arrays: dict[str, np.ndarray]) -> Network:
    """The network with these weights, once their names, shapes and values are checked."""
    template = jax.eval_shape(lambda: create(config.model, vocabulary.size, 0))
    expected = named_arrays(template)
    if set(expected) != set(arrays):
        raise CheckpointError(f"{file}: its weights are not those of the network it describes")
    for name, array in arrays.items():
        if array.shape != expected[name].shape or array.dtype != expected[name].dtype:
            raise CheckpointError(
                f"{file}: {name} is {array.dtype} {array.shape}, not {expected[name].dtype} {expected[name].shape}"
            )
        if not np.isfinite(array).all():
            raise CheckpointError(f"{file}: {name} holds values that are not finite")
    return with_arrays(template, arrays)


def _numbered(tree: Any) -> dict[str, Any]:
    return {f"{number:04}": leaf for number, leaf in enumerate(jax.tree.leaves(tree))}


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, arrays)


def _load_arrays(path: Path, template: dict[str, Any]) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    wanted = {
        key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for key, leaf in template.items()
    }
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(path, wanted)
    for key, leaf in wanted.items():
        if arrays[key].shape != leaf.shape or arrays[key].dtype != leaf.dtype:
            raise CheckpointError(f"array {key} is {arrays[key].dtype} {arrays[key].shape}")
    return arrays


def _sync_tree(folder: Path) -> None:
    for entry in (*folder.rglob("*"), folder):
        _sync(entry)


def _sync(path: Path) -> None:
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be written ({error.strerror or error}); what was saved before is untouched")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
