"""`charrnn train`."""

import signal
import sys
from pathlib import Path
from typing import Any, cast

import click

from charrnn.cli.options import begin_computing, checkpoints_option, config_options
from charrnn.cli.stop import Stopped, StopRequest, Talk
from charrnn.config import DataConfig, ModelConfig, TrainingConfig
from charrnn.errors import ConfigError


@click.command()
@click.argument("corpus", nargs=-1)
@click.option("--run", metavar="NAME", help="The run's name; the corpus's own, numbered, when not given.")
@checkpoints_option
@click.option("--resume", is_flag=True, help="Go on with a run: the named one, the corpus's newest, or the newest.")
@click.option("--init-from", metavar="RUN", help="Fine-tune: start from that run, or from a model.safetensors file.")
@click.option("--new", is_flag=True, help="Begin a new run even if the same command's last one is not finished.")
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
    new: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn CORPUS: files, folders, - for a pipe, or a bundled text by name.

    Shows what it is doing and can be stopped with Ctrl-C at any point: it saves, and --resume, or the
    same command again, goes on from there to the same result. With no budget it learns for 5 minutes or
    60 epochs (with --init-from 1 minute or 12 epochs), or with --patience for as long as it gets better.
    """
    if new and resume:
        raise ConfigError("--new begins a run and --resume goes on with one: give one of them")
    stop = StopRequest()
    with stop:
        go_on = (lambda name, step: False) if new else _ask_to_go_on
        try:
            _check_options(options, resume or init_from is not None)
            _train(
                corpus, run, checkpoints, quiet, stop, resume=resume, init_from=init_from, go_on=go_on, **options
            )  # fmt: skip
        except Stopped:
            click.echo("Stopped before it began to learn.", err=True)
    if stop.code:
        sys.exit(stop.code)


def _check_options(options: dict[str, Any], of_a_run: bool) -> None:
    """Refuse what is out of bounds before anything heavy is imported.

    Whether the model's options are those of a run, or fit it, is only known when that is read.
    """
    from charrnn.config import from_options

    for part in (DataConfig, TrainingConfig) if of_a_run else (DataConfig, ModelConfig, TrainingConfig):
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

    begin_computing()
    # Whoever reads what is said going away counts as SIGTERM.
    talk = Talk(sys.stderr, lambda: stop.ask(signal.SIGTERM))
    console = Console(file=cast(Any, talk), highlight=False)
    with reading_progress(console, quiet) as progress:
        job = start(corpus, run=run, checkpoints=checkpoints, progress=progress, **options)
    display = make_display(console, job, quiet)
    with stop.deferred():
        with display:
            for event in job.events(stop.requested, samples=not quiet):
                display.show(event)
        display.farewell()


def _ask_to_go_on(name: str, step: int) -> bool:
    """Whether to go on with a run that the same command began; yes where nobody can be asked."""
    where = f"run {name} is not finished" + (f" (saved at step {step:,})" if step else "")
    if sys.stdin.isatty() and sys.stderr.isatty():
        return click.confirm(f"{where[0].upper()}{where[1:]}. Go on with it?", default=True, err=True)
    click.echo(f"note: {where}: going on with it (--new begins another)", err=True)
    return True
