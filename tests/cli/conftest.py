"""The commands run in this process, on runs of random weights."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

Run = Callable[..., Result]


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
