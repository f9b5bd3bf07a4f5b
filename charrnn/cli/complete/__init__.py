"""`charrnn complete`: type, and the model goes on."""

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from charrnn.cli.complete.commands import (
    Outcome,
    as_text,
    help_for,
    is_command,
    is_known_command,
    needs_terminal,
    obey,
)
from charrnn.cli.complete.session import LENGTH, Session, Turn
from charrnn.cli.glyphs import column_after
from charrnn.cli.options import (
    checkpoints_option,
    config_options,
    describe,
    load_model,
    run_argument,
    shown,
    warn_of_unknown,
)
from charrnn.cli.stop import raise_lost_interrupt, stop_when_terminated
from charrnn.config import SampleConfig, from_options
from charrnn.errors import CharrnnError, ConfigError


@click.command()
@run_argument
@checkpoints_option
@config_options(SampleConfig, defaults={"length": LENGTH})
def complete(run: str | None, checkpoints: Path, **options: Any) -> None:
    """Type the beginning of a text and RUN (the newest when not given) goes on from it.

    What it would write stands ahead of the cursor: the right arrow or Ctrl-E accepts it, Alt-F a word of
    it, Tab shows another. Enter lets it go on; /help lists the commands; Ctrl-C stops the text, Ctrl-D leaves.

    With piped input each line is a beginning, and the completed lines are written out.
    """
    settings = {"length": LENGTH} | {k: v for k, v in options.items() if v not in (None, ())}
    from_options(SampleConfig, settings)
    model = load_model(run, checkpoints)
    session = Session(settings=settings)
    if sys.stdin.isatty() and sys.stdout.isatty():
        from charrnn.cli.complete.terminal import Terminal

        stop_when_terminated()  # so that the terminal is left as it was
        Terminal(model, checkpoints, session).run()
    else:
        complete_lines(model, checkpoints, session, sys.stdin)


def complete_lines(model: Any, checkpoints: Path, session: Session, lines: Iterable[str]) -> None:
    """Each line is the beginning of a text of its own; lines that are a known command are obeyed.

    Nothing is kept of a line, so that there may be any number: what goes back to one needs a terminal.
    """
    for line in lines:
        beginning = line.removesuffix("\n").removesuffix("\r")
        if needs_terminal(beginning):
            click.echo(f"{beginning.split()[0]} needs a terminal: here each line is a text of its own", err=True)
        elif is_command(beginning) and is_known_command(beginning):
            outcome = obey(beginning, session)
            session = outcome.session
            if outcome.deed == "leave":
                return
            model = carry_out(outcome, model, checkpoints)
        else:
            draw(model, Session(settings=session.settings), Turn(as_text(beginning)))


def carry_out(outcome: Outcome, model: Any, checkpoints: Path) -> Any:
    """Say what a command says and do what it asks for; returns the model to go on with."""
    say = outcome.say
    try:
        match outcome.deed:
            case "load":
                model = load_model(at_home(outcome.argument), checkpoints)
                say = describe(model)
            case "help":
                say = help_for(shutil.get_terminal_size().columns)
            case "show":
                say = "\n".join([describe(model), *outcome.session.shown_settings()])
    except CharrnnError as error:
        say = str(error)
    if say:
        click.echo(say, err=True)
    return model


def at_home(name: str) -> str:
    """A name that begins with `~` as the path that it means.

    Raises ConfigError where it means none.
    """
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError as error:
        raise ConfigError(f"{name}: there is no such user") from error


def draw(model: Any, session: Session, turn: Turn, beginning: Any = None, begun: str = "") -> tuple[Turn, float]:
    """Write what was typed and the continuation, piece by piece; Ctrl-C stops the text only.

    beginning: what the model has read of the text. begun: the line above the cursor, where the text is to go on in
    it. Returns the turn with what was drawn, and the characters a second. Raises ConfigError, before anything is
    written, where the settings leave nothing to draw.
    """
    warn_of_unknown(model, turn.typed)
    stream = model.stream(session.text + turn.typed, row=turn.row, after=beginning, **session.settings)
    terminal = sys.stdout.isatty()
    if terminal and begun and not model.unknown(turn.typed):
        click.echo(_back_to_the_end_of(shown(begun, True)), nl=False)
    click.echo(click.style(shown(turn.typed, terminal), bold=terminal) if turn.typed else "", nl=False)
    drawn, interrupted, pace = "", False, [(0, time.perf_counter())]
    try:
        for piece in stream:
            click.echo(shown(piece, terminal), nl=False)
            sys.stdout.flush()
            drawn += piece
            raise_lost_interrupt()
            pace.append((len(drawn), time.perf_counter()))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise click.Abort from None
        interrupted = True
    click.echo()
    return Turn(turn.typed, drawn, not interrupted and stream.ended == "eos", turn.row), _speed(pace)


def _back_to_the_end_of(line: str) -> str:
    """What moves a terminal's cursor from below a line to its end; nothing where that is the edge, or not known."""
    width = shutil.get_terminal_size().columns
    column = column_after(line, width)
    if "\t" in line or column == width:
        return ""
    return f"\x1b[A\x1b[{column}C" if column else "\x1b[A"


def _speed(pace: list[tuple[int, float]]) -> float:
    """Characters a second, from how many there were at which times.

    The first piece, which waits for the prompt to be read and perhaps for a program to be compiled, counts only
    where there is no other.
    """
    (first, started), (last, ended) = pace[1 if len(pace) > 2 else 0], pace[-1]
    return (last - first) / max(ended - started, 1e-9)
