"""`charrnn runs`, `show` and `corpora`: what there is."""

import dataclasses
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import checkpoints_option, run_argument
from charrnn.errors import CheckpointError
from charrnn.fields import flag_of, on_one_line
from charrnn.units import in_bits

_HEADINGS = ("run", "bits/char", "network", "steps", "trained", "corpus")
_LEAST_OF_CORPUS = 12


@click.command()
@checkpoints_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run, for programs.")
def runs(checkpoints: Path, as_json: bool) -> None:
    """List what has been trained, newest first, and how well."""
    from charrnn.checkpoint import list_runs

    found = []
    for folder in reversed(list_runs(checkpoints)):
        try:
            found.append(_facts(folder))
        except CheckpointError as error:
            click.echo(f"warning: {error}", err=True)
    if as_json:
        for facts in found:
            click.echo(json.dumps(facts, ensure_ascii=False))
        return
    if not found:
        click.echo(f"no runs in {checkpoints} yet; charrnn train makes one", err=True)
        return
    _print_table([_row(facts) for facts in found])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    bits = "-" if facts["bits_per_character"] is None else f"{facts['bits_per_character']:.3f}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["written"]))
    return facts["run"], bits, facts["network"], f"{facts['steps']:,}", when, facts["corpus"]


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """The runs, without the last columns where the terminal is too narrow for them; `show` has all of it."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    widths = [max(map(cell_len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    widths[-1] = min(widths[-1], _LEAST_OF_CORPUS)
    while len(widths) > 2 and sum(widths) + 2 * (len(widths) - 1) > console.width:
        widths.pop()
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS[: len(widths)]:
        table.add_column(heading, justify="right" if heading in ("bits/char", "steps") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row[: len(widths)])
    console.print(table)


def _facts(folder: Any) -> dict[str, Any]:
    config, metrics = folder.config(), folder.metrics()
    nats = [event["nats"] for event in metrics if event.get("event") == "validation"]
    return {
        "run": folder.name,
        "bits_per_character": in_bits(min(nats)) if nats else None,
        "network": f"{config.model.cell} {config.model.num_layers}x{config.model.hidden_size}",
        "steps": max([0, *(event.get("step", 0) for event in metrics), *folder.steps()]),
        "written": folder.path.stat().st_mtime,
        "corpus": ", ".join(Path(source).name for source in config.corpus),
    }


@click.command()
@run_argument
@checkpoints_option
@click.option("--json", "as_json", is_flag=True, help="The configuration and the validations as JSON.")
def show(run: str | None, checkpoints: Path, as_json: bool) -> None:
    """Show what RUN (the newest when not given) is made from and how it learnt."""
    from charrnn.checkpoint import RunFolder, find_run
    from charrnn.errors import RunNotFoundError

    path = find_run(run, checkpoints)
    if not path.is_dir():
        raise RunNotFoundError(f"{path}: a weights file; `show` wants a run folder")
    folder = RunFolder(path)
    config, metrics = folder.config(), folder.metrics()
    validations = [event for event in metrics if event.get("event") == "validation"]
    tests = [event for event in metrics if event.get("event") == "test"]
    if as_json:
        facts = {
            "config": json.loads(config.to_json()),
            "validations": validations,
            "test": tests[-1] if tests else None,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    _print_run(folder, config, metrics, validations)


def _print_run(folder: Any, config: Any, metrics: list[dict[str, Any]], validations: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    from charrnn.cli.display import clock, sparkline
    from charrnn.training.progress import Progress

    console = Console(highlight=False)
    say = lambda text: console.print(Text(text), soft_wrap=not console.is_terminal)  # noqa: E731
    say(f"{folder.path}: {', '.join(config.corpus)}")
    for name, part in (("data", config.data), ("model", config.model), ("training", config.training)):
        say(f"{name}: {' '.join(_options(part))}")
    if config.init_from:
        say(f"started from: {config.init_from.run}, weights {config.init_from.weights[:16]}")
    say("versions: " + ", ".join(f"{key} {value}" for key, value in config.versions.items()))
    losses = [
        in_bits(event["loss"]) for event in metrics if event.get("event") == "train" and event.get("loss") is not None
    ]
    width = max(8, console.width - 40)
    if losses:
        say(f"training    {losses[-1]:.3f} bits per character  {sparkline(losses, width)}")
    if validations:
        bits = [in_bits(event["nats"]) for event in validations]
        best = min(validations, key=lambda event: event["nats"])
        say(f"validation  {bits[-1]:.3f} bits per character  {sparkline(bits, width)}")
        divided = f", its logits divided by {best['temperature']:.2f}" if "temperature" in best else ""
        say(f"best        {in_bits(best['nats']):.3f} bits per character at step {best['step']:,}{divided}")
        for test in [event for event in metrics if event.get("event") == "test"][-1:]:
            say(f"test        {in_bits(test['nats']):.3f} bits per character on the {test['characters']:,} kept back")
    timed = [(event["step"], event["elapsed"]) for event in metrics if "elapsed" in event and "step" in event]
    if saved := folder.last_progress(Progress.from_json):
        timed.append((saved[0], saved[1].elapsed))
    if timed:
        step, elapsed = max(timed)
        say(f"time        {clock(elapsed)}, {_steps(step)}")


def _options(part: Any) -> Iterator[str]:
    """A part of a configuration, by the names of the command line."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if value is True:
            yield flag_of(field)
        elif value is not None and value is not False:
            yield f"{flag_of(field)} {shlex.quote(on_one_line(value))}"


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a text, for programs.")
def corpora(as_json: bool) -> None:
    """List the bundled texts; train on one by its name."""
    from charrnn.text.bundled import BUNDLED, PYTHON, corpora_folder

    rows = []
    for bundled in BUNDLED:
        text = (corpora_folder() / bundled.file).read_text("utf-8")
        rows.append({
            "name": bundled.name, "characters": len(text), "alphabet": len(set(text)), "documents": bundled.documents,
            "what": bundled.what,
        })  # fmt: skip
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    for row in rows:
        click.echo(
            f"{row['name']:14}{row['characters']:>9,} characters  {row['alphabet']:>5,} distinct  "
            f"{row['documents']:10} {row['what']}"
        )
    click.echo(f"{PYTHON:14}{'made on the spot':>20}{'':>16}  {'file':10} the running Python's own library sources")
