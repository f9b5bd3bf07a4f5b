"""Held-out figures after a budget, whole processes, default options but the budget.

    python -m benchmarks.quality TEXT... [--minutes 0.36 1.53 10] [--seeds 3]

Two protocols that are never mixed: `stateful` is one pass with the state carried, `windows` the mean over random
cold-start windows of 256 characters. `copied` is the share of the 20-character runs of 20 samples that stand in the
corpus; texts shorter than that have none.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from benchmarks.machine import CHARRNN, NATS, describe, facts_of, located, run, write_result


def measure(text: str, minutes: float, seed: int) -> str:
    """Train, score and sample once; a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--minutes", f"{minutes:g}", "--seed", str(seed), "--run", "run", "--quiet")
        seconds = run(*CHARRNN, "train", located(text), *options, cwd=Path(folder)).seconds
        model = facts_of("show", "run", folder=folder)["config"]["model"]
        nats = facts_of("score", "run", "--part", "validation", folder=folder)["nats_per_character"]
        cold = facts_of("score", "run", "--part", "validation", "--protocol", "windows", folder=folder)
        drawn = facts_of("sample", "run", "--n", "20", "--seed", str(seed), "--novelty", folder=folder)
    network = f"{model['num_layers']}x{model['hidden_size']}"
    copied = f"{drawn['share_in_corpus']:7.1%}" if drawn["runs"] else f"{'-':>7}"
    return (
        f"{Path(text).name:20} {minutes:7g} {seed:4} {network:>7} {nats:9.4f} {nats / NATS:9.4f} "
        f"{cold['nats_per_character']:8.4f} {copied} {seconds:9.1f}"
    )


def main() -> None:
    """Train on each text with each budget and seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.5])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    lines = [describe(), "charrnn train TEXT --minutes M --seed S, default options but those; whole processes", ""]
    lines.append(
        f"{'text':20} {'minutes':>7} {'seed':>4} {'network':>7} {'nats/char':>9} {'bits/char':>9} {'windows':>8} "
        f"{'copied':>7} {'process s':>9}"
    )
    for text, minutes, seed in itertools.product(arguments.texts, arguments.minutes, range(arguments.seeds)):
        lines.append(measure(text, minutes, seed))
        print(lines[-1], flush=True)
    write_result("quality.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
