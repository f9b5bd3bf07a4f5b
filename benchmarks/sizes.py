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
from charrnn.training.recipe import rate_for

BATCH, WINDOW = 32, 64
TRIALS, SPEEDS = RESULTS / "sizes.jsonl", RESULTS / "sizes_speed.json"
ROUNDS = 5
KEY = ("text", "cell", "layers", "hidden", "batch", "window", "rate", "dropout", "extra", "steps", "seed")


def speed_of(cell: str, layers: int, hidden: int, batch: int, window: int) -> float:
    """Characters a second of a shape on this machine, measured once and kept."""
    known: dict[str, float] = json.loads(SPEEDS.read_text()) if SPEEDS.exists() else {}
    name = f"{cell} {layers}x{hidden} {batch}x{window}"
    if name not in known:
        steps = charrnn_steps(Contender("charrnn", cell, layers, hidden, batch, window, "auto"))
        rates = []
        for _ in range(ROUNDS + 1):  # the first compiles
            started, taken = time.perf_counter(), 0
            while time.perf_counter() - started < 1:
                taken += steps()
            rates.append(taken * batch * window / (time.perf_counter() - started))
        known[name] = round(statistics.median(rates[1:]))
        SPEEDS.write_text(json.dumps(known, indent=1) + "\n")
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


def trials(arguments: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Every combination that was asked for: the text's source and the settings, which hold its name alone."""
    made = []
    for text, seconds, hidden, dropout, scale, seed in itertools.product(
        arguments.texts, arguments.seconds, arguments.hidden, arguments.dropout, arguments.rate, range(arguments.seeds)
    ):
        shape = (arguments.cell, arguments.layers, hidden, arguments.batch, arguments.window)
        steps = round(seconds * speed_of(*shape) / (arguments.batch * arguments.window))
        settings = (*shape, round(rate_for(hidden) * scale, 6), dropout, arguments.extra, steps, seed)
        made.append((text, {"seconds": seconds, **dict(zip(KEY, (Path(text).name, *settings), strict=True))}))
    return made


def table(records: list[dict[str, Any]]) -> str:
    """All trials, by text and time, the best first."""
    lines = [describe(), "trials of `python -m benchmarks.sizes`, nats per character of held-out text", ""]
    lines.append(f"{'text':20} {'seconds':>7} {'network':16} {'batch':>7} {'rate':>7} {'dropout':>7} {'steps':>6} "
                 f"{'seed':>4} {'nats':>7}  more options")  # fmt: skip
    for record in sorted(records, key=lambda record: (record["text"], record["seconds"], record["nats"])):
        network = f"{record['cell']} {record['layers']}x{record['hidden']}"
        lines.append(
            f"{record['text']:20} {record['seconds']:7g} {network:16} "
            f"{record['batch']:>3}x{record['window']:<3} {record['rate']:7g} {record['dropout']:7g} "
            f"{record['steps']:6} {record['seed']:4} {record['nats']:7.4f}  {record['extra']}".rstrip()
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
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    records = kept_trials(TRIALS)
    done = {tuple(record[name] for name in KEY) for record in records}
    for source, settings in trials(arguments):
        if tuple(settings[name] for name in KEY) in done:
            continue
        records.append({**settings, "nats": round(trial(source, settings), 4)})
        keep_trial(TRIALS, records[-1])
    write_result("sizes.txt", table(records))


if __name__ == "__main__":
    main()
