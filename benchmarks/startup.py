"""How long the commands take as whole processes, the compilation cache cold and warm; and the first character.

    python -m benchmarks.startup

trains a small run on the bundled towns first, and a wide one for two steps, in a temporary folder. The first
character is timed in a process that has drawn before, from the call of `stream` to its first piece; the goal is
50 ms.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe, run, write_result

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


def main() -> None:
    """Measure and write the table."""
    charrnn = (sys.executable, "-m", "charrnn")
    lines = [describe(), "", f"{'command':34} {'median s':>8} {'min':>6} {'max':>6}"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CHARRNN_CACHE": f"{folder}/cache"}
        train = (*charrnn, "train", "towns")
        wide = ("--steps", "2", "--layers", "2", "--hidden", "512", "--run", "wide")
        run(*train, *wide, cwd=Path(folder), environment=environment)
        run(*train, "--steps", "200", "--run", "towns", cwd=Path(folder), environment=environment)
        cold = {"CHARRNN_CACHE": f"{folder}/none"}

        def add(label: str, seconds: list[float]) -> None:
            middle = statistics.median(seconds)
            lines.append(f"{label:34} {middle:8.3f} {min(seconds):6.3f} {max(seconds):6.3f}")

        def measure(label: str, *command: str, times: int = _RUNS, environment: dict[str, str] = environment) -> None:
            seconds = [run(*charrnn, *command, cwd=Path(folder), environment=environment).seconds for _ in range(times)]
            add(label, seconds)

        measure("charrnn --help", "--help")
        measure("sample --length 200, cold", "sample", "--length", "200", "--ignore-eos", times=1, environment=cold)
        measure("sample --length 200, warm", "sample", "--length", "200", "--ignore-eos")
        for name in ("towns", "wide"):
            done = run(sys.executable, "-c", _FIRST, name, cwd=Path(folder), environment=environment)
            add(f"first character, {name}", [float(part) for part in done.output.split()])
    write_result("startup.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
