"""Scoring a long text beside training's forward pass, and its memory by the text's length.

    python -m benchmarks.score_speed TEXT [--megabytes 10] [--hidden 256]

The network has random weights, which cost as much as any others. `validation` is training's own
pass over held-out text; `charrnn score` is the whole process, start-up and reading included.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import Run, describe, run, write_result


def repeated(source: Path, target: Path, size: int) -> None:
    """Write a text again and again, up to a size in bytes."""
    content = source.read_bytes()
    with target.open("wb") as file:
        for _ in range(-(-size // len(content))):
            file.write(content[: size - file.tell()])


def make_run(text: Path, checkpoints: Path, hidden: int) -> None:
    """A run of random weights for the text's alphabet."""
    from charrnn.checkpoint import RunFolder
    from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
    from charrnn.nn.network import create
    from charrnn.text.vocabulary import Vocabulary

    vocabulary = Vocabulary("".join(sorted(set(text.read_text("utf-8")))))
    model = ModelConfig(hidden_size=hidden, embedding_size=0, dropout=0.0)
    training = TrainingConfig(seq_length=64, batch_size=32, learning_rate=0.01, eval_every=100)
    config = RunConfig(("random",), "0" * 64, DataConfig(documents="file"), model, training, {}, whole_documents=False)
    folder, lock = RunFolder.create(checkpoints, "random", config, vocabulary)
    folder.save_weights(create(model, vocabulary.size, 0), {"nats": 0.0, "step": 0})
    lock.release()


def validation_speed(text: Path, checkpoints: Path, passes: int = 3) -> tuple[float, str]:
    """Characters a second of training's validation, the best of a few passes, and its number format."""
    from charrnn.model import load
    from charrnn.scoring.text import open_text
    from charrnn.text.batches import ValidationBatches
    from charrnn.training.devices import resolve_precision
    from charrnn.training.validation import validate

    model, precision, best = load("random", checkpoints), resolve_precision("auto"), 0.0
    with open_text(text, model.config, model.vocabulary) as ready:
        batches = ValidationBatches(ready.positions, 64, 64)
        for _ in range(passes + 1):  # the first compiles
            started = time.perf_counter()
            validate(model.network, batches, precision)
            best = max(best, len(ready) / (time.perf_counter() - started))
    return best, precision


def score(text: Path, checkpoints: Path, *options: str) -> Run:
    """`charrnn score` as a process."""
    command = [sys.executable, "-m", "charrnn", "score", "random", str(text), "--json", *options]
    return run(*command, "--checkpoints", str(checkpoints))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=256)
    arguments = parser.parse_args()
    from charrnn.training.devices import use_every_core

    use_every_core()
    lines = [describe(), f"lstm 1x{arguments.hidden}, random weights", ""]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_run(arguments.text, folder, arguments.hidden)
        short, long = folder / "short.txt", folder / "long.txt"
        repeated(arguments.text, short, 1_000_000)
        repeated(arguments.text, long, arguments.megabytes * 1_000_000)
        speed, precision = validation_speed(short, folder)
        lines.append(f"{f'validation of 1 MB, {precision}':44} {speed:10,.0f} characters/s")
        score(short, folder)  # so that the programs are compiled
        seconds = []
        for what, text in (("1 MB", short), (f"{arguments.megabytes} MB", long)):
            done = score(text, folder)
            seconds.append(done.seconds)
            facts = json.loads(done.output)
            characters = facts["characters"]
            lines.append(
                f"{f'charrnn score, {what}, whole process':44} {characters / done.seconds:10,.0f} characters/s"
                f"  {done.seconds:6.1f} s  peak {done.peak_megabytes:,.0f} MiB  {facts['streams']} streams"
            )
        alone = (arguments.megabytes - 1) * 1_000_000 / (seconds[1] - seconds[0])
        lines.append(f"{'each megabyte more, so without start-up':44} {alone:10,.0f} characters/s")
    write_result("score_speed.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
