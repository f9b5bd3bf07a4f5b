"""Held-out nats and bits per character after a budget, whole processes, default options but the budget.

python -m benchmarks.quality TEXT... [--minutes 1.5] [--seeds 3]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe, run, write_result


def main() -> None:
    """Train on each text with each seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    charrnn = (sys.executable, "-m", "charrnn")
    heading = f"{'text':24} {'seed':>4} {'nats/char':>9} {'bits/char':>9} {'process s':>9}"
    lines = [describe(), f"--minutes {arguments.minutes:g}", "", heading]
    for text in arguments.texts:
        source = str(Path(text).absolute()) if Path(text).exists() else text
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                budget = ("--minutes", str(arguments.minutes), "--seed", str(seed))
                trained = run(*charrnn, "train", source, *budget, "--quiet", cwd=Path(folder))
                facts = json.loads(run(*charrnn, "runs", "--json", cwd=Path(folder)).output.splitlines()[-1])
            bits = facts["bits_per_character"]
            name = Path(text).name
            lines.append(f"{name:24} {seed:4} {bits * 0.6931471805599453:9.4f} {bits:9.4f} {trained.seconds:9.1f}")
    write_result("quality.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
