"""The study behind `--size auto`: what each width reaches with the time that it has.

    python -m benchmarks.sizes TEXT... [--seconds 19 85] [--hidden 256 512] [--dropout 0.1 0.3] [--seeds 1]

Each width's speed is measured first, alone. A trial then takes as many steps as that speed makes in so many seconds of
training, so that what else the machine does while a trial runs changes nothing. Trials that
`results/sizes.jsonl` holds already are not made again; the table is of all that it holds.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
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
from benchmarks.train_speed import Contender, charrnn_steps
from charrnn.training.devices import resolve_precision, use_every_core
from charrnn.training.recipe import rate_for

BATCH, WINDOW = 32, 64
TRIALS, SPEEDS = RESULTS / "sizes.jsonl", RESULTS / "sizes_speed.json"
ROUNDS = 5
CLOSE = 0.012
"""Nats from the best of a text and time up to which a combination is tried with a further seed."""
KEY = ("text", "cell", "layers", "hidden", "batch", "window", "rate", "dropout", "extra", "steps", "seed")


def speed_of(cell: str, layers: int, hidden: int, batch: int, window: int) -> float:
    """Characters a second of a shape on this machine, measured once and kept."""
    machines: dict[str, dict[str, float]] = json.loads(SPEEDS.read_text()) if SPEEDS.exists() else {}
    known = machines.setdefault(describe(), {})
    name = f"{cell} {layers}x{hidden} {batch}x{window}"
    if name not in known:
        precision = resolve_precision("auto")
        steps = charrnn_steps(Contender("charrnn", cell, layers, hidden, batch, window, precision))
        rates = []
        for _ in range(ROUNDS + 1):  # the first compiles
            started, taken = time.perf_counter(), 0
            while time.perf_counter() - started < 1:
                taken += steps()
            rates.append(taken * batch * window / (time.perf_counter() - started))
        known[name] = round(statistics.median(rates[1:]))
        SPEEDS.write_text(json.dumps(machines, indent=1) + "\n")
    return known[name]


def trial(source: str, settings: dict[str, Any]) -> float:
    """Nats per character of held-out text after a training of so many steps, its best."""
    options = {
        "cell": settings["cell"], "layers": settings["layers"], "hidden": settings["hidden"],
        "batch-size": settings["batch"], "seq-length": settings["window"], "learning-rate": settings["rate"],
        "dropout": settings["dropout"], "steps": settings["steps"], "seed": settings["seed"],
        "eval-every": max(1, settings["steps"] // 4),
    }  # fmt: skip
    if "--weight-drop" not in settings["extra"]:
        options["weight-drop"] = 0
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        run(*CHARRNN, "train", located(source), "--quiet", *words, *settings["extra"].split(), cwd=Path(folder))
        return float(facts_of("runs", folder=folder)["bits_per_character"]) * NATS


def trials(arguments: argparse.Namespace, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Every combination that was asked for: the text's source and the settings, which hold its name alone."""
    made = []
    for text, seconds, hidden, dropout, scale in itertools.product(
        arguments.texts, arguments.seconds, arguments.hidden, arguments.dropout, arguments.rate
    ):
        shape = (arguments.cell, arguments.layers, hidden, arguments.batch, arguments.window)
        steps = round(seconds * speed_of(*shape) / (arguments.batch * arguments.window))
        settings = (*shape, round(rate_for(hidden) * scale, 6), dropout, arguments.extra, steps, seed)
        made.append((text, {"seconds": seconds, **dict(zip(KEY, (Path(text).name, *settings), strict=True))}))
    return made


def among_the_best(settings: dict[str, Any], records: list[dict[str, Any]]) -> bool:
    """Whether this combination's trials so far come close to the best of its text and time."""
    rivals: dict[tuple[Any, ...], list[float]] = {}
    for record in records:
        if (record["text"], record["seconds"]) == (settings["text"], settings["seconds"]):
            rivals.setdefault(tuple(record[name] for name in KEY[:-1]), []).append(record["nats"])
    means = {key: statistics.mean(nats) for key, nats in rivals.items()}
    return means[tuple(settings[name] for name in KEY[:-1])] <= min(means.values()) + CLOSE


def table(records: list[dict[str, Any]]) -> str:
    """All trials by text and time, those that differ in nothing but the seed in one row, the best first."""
    alike: dict[tuple[Any, ...], list[float]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        alike.setdefault((record["seconds"], *(record[name] for name in KEY[:-1])), []).append(record["nats"])
    rows = [(dict(zip(("seconds", *KEY), key, strict=False)), nats) for key, nats in alike.items()]
    rows.sort(key=lambda row: (row[0]["text"], row[0]["seconds"], statistics.mean(row[1])))
    lines = [describe(), "trials of `python -m benchmarks.sizes`: mean nats per character of held-out text", ""]
    lines.append(f"{'text':20} {'seconds':>7} {'network':16} {'batch':>7} {'rate':>8} {'dropout':>7} {'steps':>6} "
                 f"{'nats':>7}  {'of each seed':23} more options")  # fmt: skip
    for settings, nats in rows:
        network = f"{settings['cell']} {settings['layers']}x{settings['hidden']}"
        lines.append(
            f"{settings['text']:20} {settings['seconds']:7g} {network:16} "
            f"{settings['batch']:>3}x{settings['window']:<3} {settings['rate']:8g} {settings['dropout']:7g} "
            f"{settings['steps']:6} {statistics.mean(nats):7.4f}  {' '.join(f'{value:.4f}' for value in nats):23} "
            f"{settings['extra']}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    """Make the trials that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--seconds", type=float, nargs="+", default=[19, 85])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 384, 512])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--rate", type=float, nargs="+", default=[1.0], help="times the learning rate of that width")
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--extra", default="", help="further options for `charrnn train`")
    parser.add_argument("--seeds", type=int, default=1, help="further ones for what comes close to the best alone")
    arguments = parser.parse_args()
    use_every_core()
    records = kept_trials(TRIALS)
    done = {tuple(record[name] for name in KEY) for record in records}
    for seed in range(arguments.seeds):
        for source, settings in trials(arguments, seed):
            if tuple(settings[name] for name in KEY) in done or (seed and not among_the_best(settings, records)):
                continue
            records.append({**settings, "nats": round(trial(source, settings), 4)})
            keep_trial(TRIALS, records[-1])
    write_result("sizes.txt", table(records))


if __name__ == "__main__":
    main()
