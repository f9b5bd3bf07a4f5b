"""How long the commands take as whole processes, the compilation cache cold and warm.

    python -m benchmarks.startup

trains a small run on the bundled towns first, in a temporary folder.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe, run, write_result

_RUNS = 7


def main() -> None:
    """Measure and write the table."""
    charrnn = (sys.executable, "-m", "charrnn")
    lines = [describe(), "", f"{'command':34} {'median s':>8} {'min':>6} {'max':>6}"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CHARRNN_CACHE": f"{folder}/cache"}
        run(*charrnn, "train", "towns", "--steps", "200", "--run", "towns", cwd=Path(folder), environment=environment)
        cold = {"CHARRNN_CACHE": f"{folder}/none"}

        def measure(label: str, *command: str, times: int = _RUNS, environment: dict[str, str] = environment) -> None:
            seconds = [run(*charrnn, *command, cwd=Path(folder), environment=environment).seconds for _ in range(times)]
            middle = statistics.median(seconds)
            lines.append(f"{label:34} {middle:8.2f} {min(seconds):6.2f} {max(seconds):6.2f}")

        measure("charrnn --help", "--help")
        measure("sample --length 200, cold", "sample", "--length", "200", "--ignore-eos", times=1, environment=cold)
        measure("sample --length 200, warm", "sample", "--length", "200", "--ignore-eos")
    write_result("startup.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
