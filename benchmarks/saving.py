"""What saving costs training.

    python -m benchmarks.saving [WIDTH ...]

trains an LSTM on the bundled fables in turns, with a save every second and a half and with none, and
says which share of the time a save a minute takes.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, write_result
from charrnn.trainer import start
from charrnn.training.devices import use_every_core
from charrnn.training.events import Saved, Trained

_SECONDS, _EVERY, _ROUNDS = 9.0, 1.5, 3


def rate(hidden: int, every: float) -> tuple[float, int, int]:
    """Steps a second with a save every so many seconds, how many saves were reported, and a step's bytes."""
    with tempfile.TemporaryDirectory() as place:
        job = start(
            ("fables",), checkpoints=Path(place), hidden_size=hidden, steps=10**6, eval_every=10**6, sample_every=0,
            checkpoint_every=every / 60,
        )  # fmt: skip
        first, saves, size, ends = 0, 0, 0, [float("inf")]
        for event in job.events(lambda ends=ends: time.monotonic() > ends[0]):
            if isinstance(event, Saved):
                saves += 1
                newest = job.task.folder.saved_steps()[-1].path
                size = sum(file.stat().st_size for file in newest.iterdir())
            if isinstance(event, Trained):
                if not first and event.step > 16:  # compiled and under way
                    first, begun = event.step, time.monotonic()
                    ends[0] = begun + _SECONDS
                last, now = event.step, time.monotonic()
        return (last - first) / (now - begun), saves, size


def main() -> None:
    """Measure and write the table."""
    use_every_core()
    lines = [
        describe(),
        "",
        f"{'network':10} {'MB a save':>9} {'steps/s':>8} {'saving':>8} {'ms a save':>9} {'share':>7}",
    ]
    for hidden in map(int, sys.argv[1:] or [512]):
        pairs = [(rate(hidden, 1e9), rate(hidden, _EVERY)) for _ in range(_ROUNDS)]
        without = statistics.median(pair[0][0] for pair in pairs)
        with_saves = statistics.median(pair[1][0] for pair in pairs)
        saves, size = pairs[0][1][1:]
        lost = max(0.0, (1 - with_saves / without) * _SECONDS / max(saves, 1))  # seconds of training a save costs
        lines.append(
            f"lstm 1x{hidden:<4} {size / 1e6:9.1f} {without:8.2f} {with_saves:8.2f} {1000 * lost:9.0f} {lost / 60:7.2%}"
        )
    lines += [
        "",
        f"medians of {_ROUNDS}; saving: steps/s with a save every {_EVERY:g} s; share: of the time at one a minute",
    ]
    write_result("saving.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
