"""One run folder: its configuration, its metrics, its exact training states and its best weights."""

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charrnn.checkpoint import files, steps
from charrnn.checkpoint.lock import Lock
from charrnn.checkpoint.reading import open_file
from charrnn.checkpoint.steps import Read, SavedStep
from charrnn.checkpoint.weights import WEIGHTS, check_complete, write_weights
from charrnn.config import RunConfig
from charrnn.errors import CheckpointError, ConfigError, StorageError
from charrnn.nn.network import Network
from charrnn.text.vocabulary import Vocabulary

CONFIG, VOCABULARY, METRICS, STEPS = "config.json", "vocabulary.json", "metrics.jsonl", "steps"
_FIGURES = frozenset({"step", "nats", "temperature", "elapsed", "characters"})
_NEEDED = {"validation": frozenset({"step", "nats", "elapsed"}), "test": frozenset({"nats", "characters"})}
_LARGEST_FIGURE = 1e300
_LARGEST_CONFIG = 1 << 22
_LARGEST_VOCABULARY = 20 * 0x110000


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Whoever writes holds its lock, which is checked where it is given; reading needs none."""

    path: Path
    lock: Lock | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @classmethod
    def create(
        cls, checkpoints: Path, name: str, config: RunConfig, vocabulary: Vocabulary
    ) -> tuple["RunFolder", Lock]:
        """Make the folder of a new run, which appears with all it needs, and lock it.

        Raises CheckpointError when there is something of that name, StorageError when it cannot be written.
        """
        target, partial = checkpoints / name, checkpoints / f".{name}.partial"
        _check_free(target)
        try:
            with files.writing(target):
                files.make_folders(checkpoints)
                files.make_folder(partial)
                lock = cls._begun(partial, config, vocabulary)
        except StorageError:
            _check_free(target)  # another process made it, and took away what this one was making
            raise
        try:
            _check_free(target)  # another process may have made it meanwhile
            with files.writing(target):
                files.rename(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(partial)
            lock.release()
            raise
        return cls(target), lock

    @classmethod
    def _begun(cls, partial: Path, config: RunConfig, vocabulary: Vocabulary) -> Lock:
        """The lock of a folder that has all that a run needs but its name."""
        try:
            lock = Lock(partial)
        except StorageError:
            with contextlib.suppress(OSError):  # not empty: another process is making it
                partial.rmdir()
            raise
        try:
            cls(partial).write_vocabulary(vocabulary)
            cls(partial).write_config(config)
            files.write(partial / METRICS, b"")
            files.make_folder(partial / STEPS)
            files.sync(partial)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(partial)
            lock.release()
            raise
        return lock

    def config(self) -> RunConfig:
        """What made the run. Raises CheckpointError when it cannot be read."""
        try:
            config = RunConfig.from_json(self._text(CONFIG, _LARGEST_CONFIG))
            check_complete(config)
        except (ConfigError, CheckpointError) as error:
            raise CheckpointError(f"{self.path / CONFIG}: cannot be read ({error})") from error
        return config

    def write_config(self, config: RunConfig) -> None:
        """Write the configuration, whole or not at all. Raises ConfigError when it would be too large to be read."""
        self._check_ours()
        content = config.to_json().encode()
        if len(content) > _LARGEST_CONFIG:
            raise ConfigError(f"{len(config.corpus):,} files are too many to name; give the folder that they are in")
        files.replace(self.path / CONFIG, content)

    def vocabulary(self) -> Vocabulary:
        """The characters of the run. Raises CheckpointError when they cannot be read."""
        try:
            return Vocabulary.from_json(self._text(VOCABULARY, _LARGEST_VOCABULARY))
        except CheckpointError as error:
            raise CheckpointError(f"{self.path / VOCABULARY}: cannot be read ({error})") from error

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Write the characters, whole or not at all."""
        files.replace(self.path / VOCABULARY, vocabulary.to_json().encode())

    def _check_ours(self) -> None:
        """Raise StorageError when the folder is not the one that was locked."""
        if self.lock is not None:
            self.lock.check(self.path)

    def _text(self, name: str, largest: int) -> str:
        """A file's text; no more of it is read than it can rightly hold."""
        try:
            with open_file(self.path / name) as file:
                content = file.read(largest + 1)
            if len(content) > largest:
                raise CheckpointError(f"larger than any {name} is")
            return content.decode("utf-8")
        except OSError as error:
            raise CheckpointError(error.strerror or str(error)) from error
        except UnicodeDecodeError as error:
            raise CheckpointError(str(error)) from error

    def save_step(self, step: int, state: Any, progress: dict[str, Any], keep: Collection[int] = ()) -> None:
        """Keep the exact training state of a step; it is listed only once it is whole and on disk.

        state: a pytree of arrays. progress: what else the loop remembers, as JSON. The newest two
        steps are kept, and those in `keep`. The metrics before it are made durable first. Raises StorageError.
        """
        self._check_ours()
        if self.metrics_path.exists():
            with files.writing(self.metrics_path):
                files.sync(self.metrics_path)
        steps.save(self.path / STEPS, step, state, progress, keep)

    def saved_steps(self) -> list[SavedStep]:
        """What was saved, ascending by step."""
        return steps.saved_steps(self.path / STEPS)

    def steps(self) -> list[int]:
        """The steps that are kept, ascending."""
        return sorted({saved.step for saved in self.saved_steps()})

    def restore(
        self,
        template: Any,
        read_progress: Callable[[Any], Read],
        on_warning: Callable[[str], None],
        only: Callable[[Read], bool] = lambda progress: True,
    ) -> tuple[Any, Read, int]:
        """The newest whole step: its state in the structure of `template`, its progress, its number.

        `only` chooses among whole steps. A damaged one is named through `on_warning`, set aside, and
        the one before is tried. Raises CheckpointError when there is none; then nothing is touched.
        """
        failures: list[tuple[SavedStep, str]] = []
        for saved in reversed(self.saved_steps()):
            try:
                state, progress = steps.load(saved, template, read_progress)
            except (CheckpointError, OSError) as error:
                failures.append((saved, str(error)))
                continue
            if only(progress):
                for damaged, why in failures:
                    aside = steps.set_aside(damaged)
                    on_warning(f"{damaged.path}: {why}; set aside as {aside.name}, going on from step {saved.step}")
                return state, progress, saved.step
        why = "; ".join(f"{saved.path}: {why}" for saved, why in failures) or "none was saved"
        raise CheckpointError(f"{self.path}: no step loads: {why}. Nothing was deleted")

    def last_progress(self, read_progress: Callable[[Any], Read]) -> tuple[int, Read] | None:
        """The newest step's number and progress, or None when there is none or it is damaged."""
        for saved in reversed(self.saved_steps()):
            with contextlib.suppress(CheckpointError):
                return saved.step, steps.read_json(saved, read_progress)
        return None

    def discard_after(self, step: int) -> None:
        """Remove the steps after one, of a way that training went and left again; damaged ones are set aside."""
        self._check_ours()
        for saved in self.saved_steps():
            if saved.step <= step:
                continue
            if steps.damage_of(saved):
                steps.set_aside(saved)
            else:
                with files.writing(saved.path):
                    steps.discard(saved)

    def tidy(self) -> None:
        """Remove what a process that was killed left half written, and make what somebody removed."""
        self._check_ours()
        steps.tidy(self.path / STEPS)

    def save_weights(self, network: Network, validation: dict[str, Any]) -> None:
        """Write `model.safetensors`: the weights, with all that sampling needs in its metadata."""
        self._check_ours()
        config, vocabulary = self._text(CONFIG, _LARGEST_CONFIG), self._text(VOCABULARY, _LARGEST_VOCABULARY)
        write_weights(self.path / WEIGHTS, network, config, vocabulary, validation)

    @property
    def metrics_path(self) -> Path:
        """Where the events are."""
        return self.path / METRICS

    def append_metrics(self, event: dict[str, Any]) -> None:
        """Add one event to `metrics.jsonl`."""
        self._check_ours()
        line = json.dumps(event).encode() + b"\n"
        with files.writing(self.metrics_path, len(line)):
            files.append(self.metrics_path, line)

    def metrics(self, after: int = 0) -> list[dict[str, Any]]:
        """The events after the first `after`; lines that are damaged or were cut short are left out."""
        lines = itertools.islice(self._metrics_lines(), after, None)
        return [event for line in lines if (event := _event(line)) is not None]

    def truncate_metrics(self, count: int) -> int:
        """Keep the first `count` lines, to the byte; the others a resumed run will write again.

        Returns how many of those are missing or damaged.
        """
        self._check_ours()
        kept = list(itertools.islice(self._metrics_lines(), count))
        files.replace(self.metrics_path, b"".join(kept))
        return count - sum(_event(line) is not None for line in kept)

    def _metrics_lines(self) -> Iterator[bytes]:
        """The whole lines of the metrics. Raises CheckpointError when they cannot be read."""
        try:
            with open_file(self.metrics_path) as file:
                yield from (line for line in file if line.endswith(b"\n"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise CheckpointError(f"{self.metrics_path}: cannot be read ({error.strerror})") from error


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    figures = _NEEDED.get(event["event"], frozenset()) | (_FIGURES & event.keys())
    return event if all(_is_figure(event.get(name)) for name in figures) and _has_loss(event) else None


def _is_figure(value: Any) -> bool:
    """Whether it is a number that can be computed with: not NaN, and no integer that no float holds."""
    return isinstance(value, int | float) and abs(value) < _LARGEST_FIGURE


def _has_loss(event: dict[str, Any]) -> bool:
    """Whether its loss is a figure, or there is none."""
    return event.get("loss") is None or _is_figure(event["loss"])


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise CheckpointError(f"{path}: there is something of that name already")
