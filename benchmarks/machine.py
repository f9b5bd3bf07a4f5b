"""What a figure must carry with it: the machine, the versions, and the time a process takes."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
CHARRNN = (sys.executable, "-m", "charrnn")
NATS = 0.6931471805599453
"""In a bit."""


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_megabytes: float
    output: str


def describe() -> str:
    """One line about this machine and the versions that were measured."""
    return f"{os.cpu_count()} cores of {_processor()}; Python {platform.python_version()}, jax {version('jax')}"


def _processor() -> str:
    """Its name, with family and model where the system tells them: virtual machines often leave the rest out."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    if "cpu family" not in facts:
        return facts["model name"]
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


def peers_version() -> str:
    """The version of PyTorch that is compared with, or that there is none."""
    try:
        return f"torch {version('torch')}"
    except PackageNotFoundError:
        return "no torch"


def run(*command: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Run a command to its end; its time, its peak memory and what it printed. Raises when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output}")
    bytes_a_unit = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * bytes_a_unit / 2**20, output)


def located(text: str) -> str:
    """A file by its whole path, a bundled text by its name."""
    return str(Path(text).absolute()) if Path(text).exists() else text


def facts_of(*command: str, folder: str | Path) -> dict[str, Any]:
    """The last JSON object that a `charrnn` command writes in a folder."""
    output = run(*CHARRNN, *command, "--json", cwd=Path(folder)).output
    return dict(json.loads([line for line in output.splitlines() if line.startswith("{")][-1]))


def kept_trials(path: Path) -> list[dict[str, Any]]:
    """The trials of this machine and these versions that a file holds, an object a line."""
    trials = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [trial for trial in trials if trial["machine"] == describe()]


def is_current(trial: dict[str, Any]) -> bool:
    """Whether a trial is of the program as it is; those of an earlier one have a note, and are made again."""
    return "note" not in trial


def keep_trial(path: Path, trial: dict[str, Any]) -> None:
    """Print a trial and add it to the file, with the machine it was made on."""
    print(json.dumps(trial), flush=True)
    with path.open("a") as file:
        file.write(json.dumps({**trial, "machine": describe()}) + "\n")


def write_result(name: str, text: str) -> None:
    """Print a result and keep it in `benchmarks/results/`."""
    print(text)
    (RESULTS / name).write_text(text + "\n", "utf-8")
