"""What each filter costs: characters drawn per second with it, beside none, in one process that takes turns.

    python -m benchmarks.filter_speed FOLDER... [--rounds 5]

Each figure is the median over the rounds of `Model.sample` at temperature 0.8 where no text ends of itself; the
ratios are to drawing with no other filter in the same rounds. What is compiled at first is not counted.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, write_result

SHAPES = ((1, 2_000), (1, 20_000), (64, 500), (16, 5_000))
"""Texts, and characters each has."""

OPTIONS: dict[str, dict[str, Any]] = {
    "no other": {},
    "--top-k 40": {"top_k": 40},
    "--top-p 0.9": {"top_p": 0.9},
    "--min-p 0.05": {"min_p": 0.05},
    "--repeat-penalty 1.2": {"repeat_penalty": 1.2},
    "--no-repeat 4": {"no_repeat": 4},
    "--no-repeat 12": {"no_repeat": 12},
    "--stop (of two texts)": {"stop": ("\x00\x00", "\x01\x02\x03")},
    "--regex '(?s)(.{1,9}\\n?)*'": {"regex": "(?s)(.{1,9}\\n?)*"},
}


def characters_per_second(model: Any, texts: int, length: int, options: dict[str, Any]) -> float:
    """How fast texts are drawn with some options."""
    # A pattern says itself where a text ends: not before its length.
    endless = {"min_length": length} if "regex" in options else {"ignore_eos": True}
    started = time.perf_counter()
    drawn = model.sample(n=texts, length=length, temperature=0.8, seed=0, **endless, **options)
    return sum(len(sample.ids) for sample in drawn) / (time.perf_counter() - started)


def lines(run: Path, rounds: int) -> Iterator[str]:
    """The table of one run."""
    import charrnn

    model = charrnn.load(run)
    config = model.config.model
    # Stops that this vocabulary has no characters for would be dropped.
    rare = model.vocabulary.characters[-3:]
    chosen = OPTIONS | {"--stop (of two texts)": {"stop": (rare[:2] * 3, rare * 3)}}
    for texts, length in SHAPES:
        for options in chosen.values():  # compiles
            characters_per_second(model, texts, length, options)
        measured: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(rounds):
            for name, options in chosen.items():
                measured[name].append(characters_per_second(model, texts, length, options))
        yield (
            f"{config.cell} {config.num_layers}x{config.hidden_size}, {model.vocabulary.size:,} ids, "
            f"{texts} text{'s' * (texts > 1)} of {length:,} characters"
        )
        for name, speeds in measured.items():
            ratio = statistics.median(own / plain for own, plain in zip(speeds, measured["no other"], strict=True))
            yield f"  {name:32}{statistics.median(speeds):12,.0f} chars/s{ratio:8.2f}"
        yield ""


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="Folders of runs.")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = [describe(), ""]
    for run in arguments.runs:
        table += lines(run, arguments.rounds)
    write_result("filter_speed.txt", "\n".join(table))


if __name__ == "__main__":
    main()
