"""Held-out figures after a budget, whole processes, default options but the budget.

    python -m benchmarks.quality TEXT... [--minutes 0.36 1.53 10] [--seeds 3]

`--minutes 0` is `charrnn train TEXT` with no option at all. Two protocols that are never mixed: `stateful` is one
pass with the state carried, `windows` the mean over random cold-start windows of 256 characters. `copied` is the
share of the 20-character runs of 20 samples that stand in the corpus; texts shorter than that have none. `own` is
that share for the held-out text itself and the training part: how much such texts repeat each other anyhow.
`temp.` is what the logits are divided by. The table is of all that `results/quality.jsonl` holds; delete it
to begin anew.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import (
    CHARRNN,
    NATS,
    RESULTS,
    describe,
    facts_of,
    is_current,
    keep_trial,
    kept_trials,
    located,
    run,
    write_result,
)
from charrnn.text.novelty import RUN, hashes
from charrnn.text.vocabulary import code_points

TRIALS = RESULTS / "quality.jsonl"


def measure(text: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train, then score and sample."""
    with tempfile.TemporaryDirectory() as folder:
        budget = ("--minutes", f"{minutes:g}") if minutes else ()
        options = (*budget, "--seed", str(seed), "--run", "run")
        fresh = {"CHARRNN_CACHE": f"{folder}/cache"}  # nothing is compiled, measured or prepared yet
        seconds = run(*CHARRNN, "train", located(text), *options, cwd=Path(folder), environment=fresh).seconds
        return {
            "text": Path(text).name,
            "minutes": minutes,
            "seed": seed,
            **judge(folder),
            "seconds": round(seconds, 1),
        }


def judge(folder: str) -> dict[str, Any]:
    """The figures of the one run in a folder of runs."""
    shown = facts_of("show", folder=folder)
    model, best = shown["config"]["model"], min(shown["validations"], key=lambda event: event["nats"])
    nats = facts_of("score", "--part", "validation", folder=folder)["nats_per_character"]
    cold = facts_of("score", "--part", "validation", "--protocol", "windows", folder=folder)
    drawn = facts_of("sample", "--n", "20", "--seed", "0", "--novelty", folder=folder)
    return {
        "network": f"{model['num_layers']}x{model['hidden_size']}",
        "stateful": round(nats, 4),
        "windows": round(cold["nats_per_character"], 4),
        "temperature": round(best["temperature"], 3),
        "copied": round(drawn["share_in_corpus"], 4) if drawn["runs"] else None,
        "own": round(share_of_the_held_out(folder), 4) if drawn["runs"] else None,
    }


def share_of_the_held_out(folder: str) -> float:
    """How many of the held-out text's runs of 20 characters stand in the training part."""
    import charrnn

    model = charrnn.load(checkpoints=Path(folder) / "checkpoints")
    own = [hashes(code_points(text), RUN) for text in model.documents("validation")]
    distinct, places = np.unique(np.concatenate(own), return_inverse=True)
    known = np.zeros(len(distinct), bool)
    for text in model.documents("train"):
        runs = hashes(code_points(text), RUN)
        found = np.minimum(np.searchsorted(distinct, runs), len(distinct) - 1)
        known[found[distinct[found] == runs]] = True
    return float(known[places].mean())


def table(trials: list[dict[str, Any]]) -> str:
    """All trials, by text and budget."""
    lines = [describe(), "charrnn train TEXT --minutes M --seed S, default options but those; whole processes", ""]
    lines.append(
        f"{'text':20} {'minutes':>7} {'seed':>4} {'network':>7} {'stateful':>8} {'bits':>7} {'windows':>7} "
        f"{'temp.':>5} {'copied':>6} {'own':>6} {'process s':>9}"
    )
    for trial in sorted(trials, key=lambda trial: (trial["text"], trial["minutes"] or 5, trial["seed"])):
        minutes = f"{trial['minutes']:g}" if trial["minutes"] else "none"
        copied, own = ("-" if trial.get(share) is None else f"{trial[share]:.1%}" for share in ("copied", "own"))
        lines.append(
            f"{trial['text']:20} {minutes:>7} {trial['seed']:4} {trial['network']:>7} {trial['stateful']:8.4f} "
            f"{trial['stateful'] / NATS:7.4f} {trial['windows']:7.4f} {trial['temperature']:5.2f} {copied:>6} {own:>6} "
            f"{trial['seconds']:9.1f}  {trial.get('note', '')}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    """Train on each text with each budget and seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.5])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    trials = kept_trials(TRIALS)
    done = {(trial["text"], trial["minutes"], trial["seed"]) for trial in filter(is_current, trials)}
    for text, minutes, seed in itertools.product(arguments.texts, arguments.minutes, range(arguments.seeds)):
        if (Path(text).name, minutes, seed) not in done:
            trials.append(measure(text, minutes, seed))
            keep_trial(TRIALS, trials[-1])
    write_result("quality.txt", table(trials))


if __name__ == "__main__":
    main()
