"""What each part of the recipe brings: one option changed at a time, equal steps.

    python -m benchmarks.recipe TEXT... [--steps 1577] [--hidden 256] [--seeds 3] [--parts NAME...]

Every training is a whole process with a fixed number of steps, so that what else the machine does changes
nothing but the seconds; those are told as a ratio to the base's, the medians over the seeds, since a part
whose steps take longer must bring more than it takes. Trials that `results/recipe.jsonl` holds already
are not made again; the table is of all that it holds.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import (
    CHARRNN,
    NATS,
    RESULTS,
    describe,
    facts_of,
    keep_trial,
    kept_trials,
    located,
    run,
    write_result,
)

TRIALS = RESULTS / "recipe.jsonl"
BASE = "the base"
PARTS = {
    BASE: "",
    "muon": "--optimizer muon",
    "adam without decay": "--weight-decay 0",
    "decay 0.1": "--weight-decay 0.1",
    "the last weights": "--ema 0",
    "no random starts": "--reset-rate 0",
    "dropout 0": "--dropout 0",
    "dropout 0.2": "--dropout 0.2",
    "variational dropout": "--variational",
    "weight drop 0.2": "--weight-drop 0.2",
    "window 32": "--seq-length 32 --batch-size 64",
    "window 128": "--seq-length 128 --batch-size 16",
    "batch 16": "--batch-size 16 --steps {twice}",
    "batch 64": "--batch-size 64 --steps {half}",
    "rate 0.01": "--learning-rate 0.01",
    "rate 0.02": "--learning-rate 0.02",
    "no warmup": "--warmup 0",
    "warmup 0.2": "--warmup 0.2",
    "f = 1 - i": "--cell lstm-coupled",
    "peepholes": "--cell lstm-peephole",
    "mogrifier": "--cell mogrifier-lstm --embedding 64 --mogrifier-rounds 2",
    "gru": "--cell gru-reset-after",
    "embedding 64": "--embedding 64",
    "embedding 256": "--embedding 256",
    "tied, embedding 256": "@tied --embedding 256",
    "factored head": "@factored",
    "embedding dropout": "@embedding-dropout",
    "no temperature": "@no-temperature",
    "one rate": "@one-rate",
    "stable, then decay": "@stable --ema 0",
    "constant, averaged": "@constant",
    "schedule-free": "@schedule-free",
    "schedule-free, 2x rate": "@schedule-free --learning-rate 0.03",
    "schedule-free, 1/2": "@schedule-free --learning-rate 0.0075",
    "moving windows": "@moving-windows",
    "i at most 1 - f": "@capped-input",
    "two layers": "--layers 2",
}
"""One change each: of options, or a variation of `benchmarks/variations.py` (@). Those of batch and window read
as many characters as the base."""

COMMON = {"--dropout": 0.1, "--weight-drop": 0}
"""The base: the default options but for these, which would follow from the budget."""


def options(change: str, hidden: int, steps: int) -> list[str]:
    """The words of a trial's command; of an option given twice the last one counts."""
    changed = change.format(twice=2 * steps, half=steps // 2).split()
    own_steps = 2 * steps if "{twice}" in change else steps // 2 if "{half}" in change else steps
    given = {"--hidden": hidden, "--steps": steps, "--eval-every": own_steps // 4, **COMMON}
    return [word for name, value in given.items() if name not in changed for word in (name, str(value))] + changed


def program_for(words: list[str]) -> tuple[str, ...]:
    """What runs `charrnn train`: itself, or the variation that one of the words names."""
    varied = [word[1:] for word in words if word.startswith("@")]
    return (sys.executable, "-m", "benchmarks.variations", *varied, "train") if varied else (*CHARRNN, "train")


def trial(source: str, words: list[str], seed: int) -> tuple[float, float]:
    """The best held-out nats per character, and the seconds spent training."""
    with tempfile.TemporaryDirectory() as folder:
        given = [word for word in words if not word.startswith("@")]
        here = {"PYTHONPATH": str(Path(__file__).parent.parent)}
        run(*program_for(words), source, "--quiet", "--seed", str(seed), *given, cwd=Path(folder), environment=here)
        facts = facts_of("runs", folder=folder)
        events = next((Path(folder) / "checkpoints").glob("*/metrics.jsonl")).read_text().splitlines()
    seconds = max(json.loads(line).get("elapsed", 0.0) for line in events)
    return facts["bits_per_character"] * NATS, seconds


def table(records: list[dict[str, Any]]) -> str:
    """All parts by text and size, the best first, with what each adds to the base's nats."""
    lines = [describe(), "trials of `python -m benchmarks.recipe`: held-out nats per character at equal steps", ""]
    for key in sorted({(record["text"], record["hidden"], record["steps"]) for record in records}):
        here = [record for record in records if (record["text"], record["hidden"], record["steps"]) == key]
        base = {record["seed"]: record for record in here if record["part"] == BASE}
        lines.append(f"{key[0]}, 1x{key[1]}, {key[2]:,} steps of 32x64")
        lines.append(f"  {'part':20} {'nats':>7} {'change':>8} {'time x':>6} {'seeds':>5}  options")
        rows = []
        for part in {record["part"] for record in here}:
            paired = [(r, base[r["seed"]]) for r in here if r["part"] == part and r["seed"] in base]
            if not paired:
                continue
            nats = statistics.mean(record["nats"] for record, _ in paired)
            change = statistics.mean(record["nats"] - based["nats"] for record, based in paired)
            slower = statistics.median(record["seconds"] / based["seconds"] for record, based in paired)
            rows.append((nats, f"  {part:20} {nats:7.4f} {change:+8.4f} {slower:6.2f} {len(paired):5}  {PARTS[part]}"))
        lines += [row.rstrip() for _, row in sorted(rows)] + [""]
    return "\n".join(lines)


def main() -> None:
    """Make the trials that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1577)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    records = kept_trials(TRIALS)
    done = {(r["text"], r["hidden"], r["steps"], r["part"], r["seed"]) for r in records}
    for text in arguments.texts:
        for seed in range(arguments.seeds):
            for part in dict.fromkeys([BASE, *arguments.parts]):
                key = (Path(text).name, arguments.hidden, arguments.steps, part, seed)
                if key in done:
                    continue
                nats, seconds = trial(located(text), options(PARTS[part], arguments.hidden, arguments.steps), seed)
                names = ("text", "hidden", "steps", "part", "seed")
                records.append(
                    {**dict(zip(names, key, strict=True)), "nats": round(nats, 4), "seconds": round(seconds, 1)}
                )
                keep_trial(TRIALS, records[-1])
    write_result("recipe.txt", table(records))


if __name__ == "__main__":
    main()
