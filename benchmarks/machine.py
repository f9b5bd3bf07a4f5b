"""What a figure must carry with it: the machine, the versions, and the time a process takes."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_megabytes: float
    output: str


def describe() -> str:
    """One line about this machine and the versions that were measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), model
        )
    return f"{os.cpu_count()} cores of {model}; Python {platform.python_version()}, jax {version('jax')}"


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


def write_result(name: str, text: str) -> None:
    """Print a result and keep it in `benchmarks/results/`."""
    print(text)
    (RESULTS / name).write_text(text + "\n", "utf-8")
