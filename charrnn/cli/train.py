"""`charrnn train`."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from charrnn.cli.options import checkpoints_option, config_options
from charrnn.config import DataConfig, ModelConfig, TrainingConfig


@click.command()
@click.argument("corpus", nargs=-1)
@click.option("--run", metavar="NAME", help="The run's name; the corpus's own, numbered, when not given.")
@checkpoints_option
@click.option("--resume", is_flag=True, help="Go on with a run: the named one, the corpus's newest, or the newest.")
@click.option("--init-from", metavar="RUN", help="Fine-tune: start from that run, or from a model.safetensors file.")
@click.option("--quiet", is_flag=True, help="Show only the result.")
@config_options(DataConfig)
@config_options(ModelConfig)
@config_options(TrainingConfig)
def train(
    corpus: tuple[str, ...],
    run: str | None,
    checkpoints: Path,
    resume: bool,
    init_from: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn CORPUS: files, folders, - for a pipe, or a bundled text by name.

    Shows what it is doing and can be stopped with Ctrl-C at any point: it saves, and --resume goes
    on from there to the same result. With no budget it learns for 5 minutes or 60 epochs (with
    --init-from 1 minute or 12 epochs), or with --patience for as long as it gets better.
    """
    stop = StopRequest()
    with stop:
        _check_options(options, init_from)
        _train(corpus, run, checkpoints, quiet, stop, resume=resume, init_from=init_from, **options)
    if stop.signal:
        sys.exit(128 + stop.signal)


def _check_options(options: dict[str, Any], init_from: str | None) -> None:
    """Refuse what is out of bounds before anything heavy is imported.

    Whether model options fit together is only known when the run that they add to is.
    """
    from charrnn.config import from_options

    for part in (DataConfig, TrainingConfig) if init_from else (DataConfig, ModelConfig, TrainingConfig):
        from_options(part, options)


def _train(
    corpus: tuple[str, ...],
    run: str | None,
    checkpoints: Path,
    quiet: bool,
    stop: "StopRequest",
    **options: Any,
) -> None:
    from rich.console import Console

    from charrnn.cli.display import make_display, reading_progress
    from charrnn.trainer import start
    from charrnn.training.devices import keep_compiled_programs, use_every_core

    use_every_core()
    keep_compiled_programs()
    console = Console(stderr=True, highlight=False)
    with reading_progress(console, quiet) as progress:
        job = start(corpus, run=run, checkpoints=checkpoints, progress=progress, **options)
    display = make_display(console, job, quiet)
    with display:
        for event in job.events(stop.requested):
            display.show(event)
    display.farewell()


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a request; a second one ends the program at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether someone asked to stop."""
        return bool(self.signal)

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        for again in self._before:
            signal.signal(again, signal.SIG_DFL)
