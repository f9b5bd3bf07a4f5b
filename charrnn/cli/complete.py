"""`charrnn complete`: type, and the model goes on."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import checkpoints_option, config_options, load_model, run_argument, shown, warn_of_unknown
from charrnn.config import SampleConfig, from_options
from charrnn.errors import ConfigError

_COMMANDS = {
    "/temp": ("temperature", float, "set the temperature, such as /temp 0.5"),
    "/length": ("length", int, "set how many characters to go on at most, such as /length 200"),
    "/seed": ("seed", int, "set the seed; the same text is drawn each time"),
}
_HELP = "\n".join(
    ["Type the beginning of a text and press Enter: the model goes on from it. Ctrl-C stops it, Ctrl-D leaves."]
    + [f"  {name:8} {what}" for name, (_, _, what) in _COMMANDS.items()]
    + ["  /help    show this", "  /bye     leave"]
)


@click.command()
@run_argument
@checkpoints_option
@config_options(SampleConfig)
def complete(run: str | None, checkpoints: Path, **options: Any) -> None:
    """Type the beginning of a text and RUN (the newest when not given) goes on from it.

    Ctrl-C stops the text, Ctrl-D leaves, /help lists the commands. With piped input each line is a
    beginning, and the completed lines are written out.
    """
    from_options(SampleConfig, options)
    model = load_model(run, checkpoints)
    settings = {"length": 400} | {name: value for name, value in options.items() if value is not None}
    if sys.stdin.isatty() and sys.stdout.isatty():
        click.echo(f"{_describe(model)} · /help lists the commands", err=True)
        beginnings = _typed()
    else:
        beginnings = (line.rstrip("\n") for line in sys.stdin)
    for beginning in beginnings:
        if beginning.startswith("/"):
            if beginning.split()[0] in ("/bye", "/exit", "/quit"):
                return
            click.echo(_command(beginning, settings), err=True)
        else:
            _go_on(model, beginning, settings)


def _describe(model: Any) -> str:
    shape = model.config.model
    return (
        f"{shape.cell} {shape.num_layers}x{shape.hidden_size} on {', '.join(Path(c).name for c in model.config.corpus)}"
    )


def _typed() -> Iterator[str]:
    """Lines typed at the prompt, with the history of earlier sessions, until Ctrl-D."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    from charrnn.text.corpus import usable_cache_folder

    session: PromptSession[str] = PromptSession(history=FileHistory(str(usable_cache_folder() / "history")))
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _command(line: str, settings: dict[str, Any]) -> str:
    """Carry out a `/` command on the settings and return what to say."""
    name, _, value = line.partition(" ")
    if name == "/help":
        return _HELP
    if name not in _COMMANDS:
        return f"{name}: no such command; /help lists them"
    option, kind, what = _COMMANDS[name]
    if not value.strip():
        return f"{option} is {settings.get(option, SampleConfig.__dataclass_fields__[option].default)}; {what}"
    try:
        from_options(SampleConfig, {option: kind(value)})
    except (ValueError, ConfigError) as error:
        return str(error) if isinstance(error, ConfigError) else f"{name} takes a number: {what}"
    settings[option] = kind(value)
    return f"{option} is now {settings[option]}"


def _go_on(model: Any, beginning: str, settings: dict[str, Any]) -> None:
    """Write the beginning and its continuation, piece by piece; Ctrl-C stops the text only."""
    warn_of_unknown(model, beginning)
    terminal = sys.stdout.isatty()
    click.echo(shown(beginning, terminal), nl=False)
    try:
        for piece in model.stream(beginning, **settings):
            click.echo(shown(piece, terminal), nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise click.Abort from None
    click.echo()
