"""How long the commands take as whole processes, the compilation cache cold and warm; and the first character.

    python -m benchmarks.startup

trains a small run on the bundled towns first, and a wide one for two steps, in a temporary folder. The first
step is that of the default model on the bundled fables, from the start of the process to the line that tells of it;
the goals are 8 s with nothing in the cache folder and 3 s once compiled programs are kept. The first character is
timed in a process that has drawn before, from the call of `stream` to its first piece; the goal is 50 ms.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import CHARRNN, describe, run, write_result

_RUNS = 7
_FIRST = """
import sys, time, charrnn
model = charrnn.load(sys.argv[1])
def first():
    began = time.perf_counter()
    next(model.stream("The ", length=1000, ignore_eos=True))
    return time.perf_counter() - began
first()
print(*(first() for _ in range(31)))
"""


def first_step(folder: str, cache: str) -> float:
    """Seconds until `charrnn train fables` has taken its first step."""
    command = (*CHARRNN, "train", "fables", "--new")
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "CHARRNN_CACHE": cache}
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("step 1 "):
                seconds = time.perf_counter() - started
                process.terminate()
                return seconds
    raise RuntimeError("".join(said))


def main() -> None:
    """Measure and write the table."""
    lines = [describe(), "", f"{'command':34} {'median s':>8} {'min':>6} {'max':>6}"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CHARRNN_CACHE": f"{folder}/cache"}
        train = (*CHARRNN, "train", "towns")
        wide = ("--steps", "2", "--layers", "2", "--hidden", "512", "--run", "wide")
        run(*train, *wide, cwd=Path(folder), environment=environment)
        run(*train, "--steps", "200", "--run", "towns", cwd=Path(folder), environment=environment)
        cold = {"CHARRNN_CACHE": f"{folder}/none"}

        def add(label: str, seconds: list[float]) -> None:
            middle = statistics.median(seconds)
            lines.append(f"{label:34} {middle:8.3f} {min(seconds):6.3f} {max(seconds):6.3f}")

        def measure(label: str, *command: str, times: int = _RUNS, environment: dict[str, str] = environment) -> None:
            seconds = [run(*CHARRNN, *command, cwd=Path(folder), environment=environment).seconds for _ in range(times)]
            add(label, seconds)

        measure("charrnn --help", "--help")
        caches = [f"{folder}/first{k}" for k in range(3)]
        add("train fables, first step, cold", [first_step(folder, cache) for cache in caches])
        add("train fables, first step, warm", [first_step(folder, cache) for cache in caches])
        measure("sample --length 200, cold", "sample", "--length", "200", "--ignore-eos", times=1, environment=cold)
        measure("sample --length 200, warm", "sample", "--length", "200", "--ignore-eos")
        for name in ("towns", "wide"):
            done = run(sys.executable, "-c", _FIRST, name, cwd=Path(folder), environment=environment)
            add(f"first character, {name}", [float(part) for part in done.output.split()])
    write_result("startup.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
