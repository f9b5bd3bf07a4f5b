"""A system whose disk fails, fills up or goes dark at a chosen call.

`charrnn.checkpoint.files` writes through the module `os`; `FaultySystem` takes its place there, counts
the calls that change the disk and interferes with one of them.
"""

import errno
import os
import random
import threading
from collections.abc import Callable
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


class Killed(BaseException):
    """The process is no more. Nothing may catch it; every later call raises it again."""


class FaultySystem:
    """The module `os`, but for what `fault` does at call number `at` (0 is the first) of those that change the disk.

    fault: "kill" stops before the call, "half" in the middle of a write, "power" also loses what was
    not made durable; "once" and "always" fail with `error`, the latter at every later call too.
    """

    def __init__(self, fault: str = "", at: int = -1, error: int = errno.ENOSPC, seed: int = 0, room: int = -1):
        self.fault, self.at, self.error, self.room = fault, at, error, room
        self.calls: list[str] = []
        self.dead, self.written = False, 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._path_of: dict[int, str] = {}
        self._unsynced_content: set[str] = set()
        self._unsynced_names: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._guarded(name, real) if name in CHANGING else real

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._lock:
                number = len(self.calls)
                self.calls.append(name)
                self._interfere(name, number, arguments)
            result = real(*arguments)
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

    def _remember(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        if name == "open":
            self._path_of[result] = str(arguments[0])
        elif name == "write":
            self._unsynced_content.add(self._path_of[arguments[0]])
            self.written += result
        elif name in ("rename", "replace"):
            self._unsynced_names.append((str(arguments[0]), str(arguments[1])))
        elif name == "fsync":
            path = self._path_of[arguments[0]]
            self._unsynced_content.discard(path)
            self._unsynced_names = [pair for pair in self._unsynced_names if os.path.dirname(pair[1]) != path]

    def _go_dark(self) -> None:
        """Lose content that was never synchronised, and the renaming of folders where nobody did."""
        for old, new in reversed(self._unsynced_names):
            if self._random.random() < 0.5 and os.path.isdir(new) and not os.path.exists(old):
                os.rename(new, old)
        for path in self._unsynced_content:
            if os.path.exists(path):
                os.truncate(path, self._random.randrange(os.path.getsize(path) + 1))
