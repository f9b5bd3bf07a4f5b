"""A system whose disk fails, fills up or goes dark at a chosen call.

`charrnn.checkpoint.files` writes through the module `os`; `FaultySystem` takes its place there, counts
the calls that change the disk and interferes with one of them.
"""

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary("abcé\U0001f600")
CONFIG = RunConfig(
    ("a.txt",), "0" * 64, DataConfig(documents="file", val_fraction=0.1),
    ModelConfig(hidden_size=4, embedding_size=2, dropout=0.0),
    TrainingConfig(seq_length=8, batch_size=2, learning_rate=0.01, eval_every=5, precision="float32"), {},
)  # fmt: skip
CHANGING = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


@dataclass
class NewName:
    """A name that a call gave. old: the one before. before: the content of the file that had the name."""

    path: str
    old: str = ""
    before: bytes | None = None

    def lose(self) -> None:
        """Be as if the name had not been given."""
        if not self.old and os.path.isdir(self.path):
            shutil.rmtree(self.path)
        elif not self.old and os.path.exists(self.path):
            os.unlink(self.path)
        elif os.path.exists(self.path) and not os.path.exists(self.old):
            os.rename(self.path, self.old)
            if self.before is not None:
                Path(self.path).write_bytes(self.before)


def _moved(path: str, new: NewName) -> str:
    """Where something is after a renaming."""
    inside = path == new.old or path.startswith(new.old + "/")
    return new.path + path.removeprefix(new.old) if inside else path


def _new_name(call: str, arguments: tuple[Any, ...]) -> NewName | None:
    """The name that a call is about to give."""
    if call in ("rename", "replace"):
        old, path = map(str, arguments)
        return NewName(path, old, Path(path).read_bytes() if os.path.isfile(path) else None)
    path = str(arguments[0])
    if call == "mkdir" or (call == "open" and arguments[1] & os.O_CREAT):
        return None if os.path.exists(path) else NewName(path)
    return None


class Killed(BaseException):
    """The process is no more. Nothing may catch it; every later call raises it again."""


class FaultySystem:
    """The module `os`, but for what `fault` does at call number `at` (0 is the first) of those that change the disk.

    fault: "kill" stops before the call, "half" in the middle of a write, "power" also loses what was
    not made durable; "once" and "always" fail with `error`, the latter at every later call too. What is
    durable is counted here, so the disk itself is not waited for.
    """

    def __init__(self, fault: str = "", at: int = -1, error: int = errno.ENOSPC, seed: int = 0, room: int = -1):
        self.fault, self.at, self.error, self.room = fault, at, error, room
        self.calls: list[str] = []
        self.dead, self.written = False, 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._path_of: dict[int, str] = {}
        self._unsynced_content: dict[str, int] = {}  # the path, and how many of its bytes are durable
        self._unsynced_names: list[NewName] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._guarded(name, real) if name in CHANGING else real

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._lock:
                number = len(self.calls)
                self.calls.append(name)
                self._interfere(name, number, arguments)
                new = _new_name(name, arguments)
            result = None if name == "fsync" else real(*arguments)
            if new:
                self._note(new)
            self._remember(name, arguments, result)
            return result

        return call

    def _interfere(self, name: str, number: int, arguments: tuple[Any, ...]) -> None:
        if self.dead:
            raise Killed
        if self.room >= 0 and name == "write":
            if len(arguments[1]) > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= len(arguments[1])
        if number == self.at or (self.fault == "always" and number > self.at >= 0):
            if self.fault in ("once", "always"):
                raise OSError(self.error, os.strerror(self.error))
            if self.fault in ("half", "power") and name == "write":
                os.write(arguments[0], arguments[1][: self._random.randrange(len(arguments[1]) + 1)])
            self.dead = True
            if self.fault == "power":
                self._go_dark()
            raise Killed

    def _note(self, new: "NewName") -> None:
        """Remember a name until its folder is synchronised; what is in a folder moves with it."""
        if new.old:
            self._unsynced_names = [name for name in self._unsynced_names if name.path != new.old]
            for name in self._unsynced_names:
                name.path = _moved(name.path, new)
            self._unsynced_content = {_moved(path, new): size for path, size in self._unsynced_content.items()}
        self._unsynced_names.append(new)

    def _remember(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        if name == "open":
            self._path_of[result] = str(arguments[0])
        elif name == "write":
            path = self._path_of[arguments[0]]
            self._unsynced_content.setdefault(path, os.path.getsize(path) - result)
            self.written += result
        elif name == "fsync":
            path = self._path_of[arguments[0]]
            self._unsynced_content.pop(path, None)
            self._unsynced_names = [name for name in self._unsynced_names if os.path.dirname(name.path) != path]

    def _go_dark(self) -> None:
        """Lose content that was never synchronised, and new names in folders that were not."""
        for path, durable in self._unsynced_content.items():
            if os.path.exists(path):
                os.truncate(path, self._random.randrange(durable, os.path.getsize(path) + 1))
        for name in reversed(self._unsynced_names):
            if self._random.random() < 0.5:
                name.lose()
