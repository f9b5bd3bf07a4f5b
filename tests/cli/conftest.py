"""The commands run in this process, on runs of random weights."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

Run = Callable[..., Result]


_IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Terminal:
    """A program in a pseudo-terminal of 24 rows and 80 columns that answers, as terminals do, where its cursor is.

    (Not by pexpect's own spawn, which forks: JAX's threads forbid it here.)
    """

    def __init__(self, *arguments: str, cwd: Path):
        from pexpect.fdpexpect import fdspawn

        self._master, slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-c", _IN_A_TERMINAL, "-m", "charrnn", *arguments]
        settings = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=settings)
        os.close(slave)
        self._child = fdspawn(self._master, encoding="utf-8", timeout=60)

    def expect(self, pattern: str) -> None:
        """Wait for a text."""
        while self._child.expect([r"\x1b\[6n", pattern]) == 0:
            self.send("\x1b[1;1R")

    def send(self, keys: str) -> None:
        """Press keys."""
        self._child.send(keys)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def leave(self) -> tuple[int, str]:
        """Wait for the end: the exit code and what was written since the last `expect`."""
        import pexpect

        self._child.expect(pexpect.EOF)
        return self._process.wait(), self._child.before

    def close(self) -> None:
        """End the program if it still runs."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture
def open_terminal(letter_runs: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Run a command in a pseudo-terminal, with the runs `letters` and `lines`."""
    opened: list[Terminal] = []

    def open_(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments, "--checkpoints", str(letter_runs), cwd=tmp_path))
        return opened[-1]

    yield open_
    for terminal in opened:
        terminal.close()


@pytest.fixture
def charrnn(letter_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command with the runs `letters` and `lines` (the newest), in an empty folder."""
    from charrnn.cli.main import cli

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("charrnn.training.devices.keep_compiled_programs", lambda: None)

    def run(command: str, *arguments: str, stdin: str | bytes = "", **environment: str | None) -> Result:
        given = [command, *arguments, "--checkpoints", str(letter_runs)]
        env = {"COLUMNS": "60", "NO_COLOR": None, "FORCE_COLOR": None, "TERM": "xterm-256color", **environment}
        return CliRunner().invoke(cli, given, input=stdin, env=env)

    yield run
    signal.signal(signal.SIGTERM, handler)
