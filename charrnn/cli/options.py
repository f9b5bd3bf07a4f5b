"""Options made from the configurations' fields, and the few that several commands share."""

import dataclasses
import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from charrnn.errors import ConfigError
from charrnn.fields import flag_of, value_types

NOTHING: Mapping[str, Any] = {}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def config_options(
    config_class: type, *, leave_out: tuple[str, ...] = (), defaults: Mapping[str, Any] = NOTHING
) -> Decorator:
    """One option a field but those left out. Not given is None: defaults and bounds stay in the configuration.

    `defaults` are told in place of the configuration's, where a command has its own.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        types = value_types(config_class)
        for field in reversed(dataclasses.fields(config_class)):
            plain, choices, _ = types[field.name]
            if field.name not in leave_out:
                default = defaults.get(field.name, field.default)
                command = _option(field, plain, choices, default)(command)
        return command

    return decorate


def _option(field: dataclasses.Field[Any], plain: type, choices: tuple[str, ...], default: Any) -> Decorator:
    names = dict.fromkeys([flag_of(field), "--" + field.name.replace("_", "-")])
    text = field.metadata["help"]
    if plain is bool:
        return click.option(*names, field.name, is_flag=True, default=None, help=text)
    if plain is tuple:
        metavar = field.metadata["metavar"]
        return click.option(*names, field.name, type=str, multiple=True, default=None, help=text, metavar=metavar)
    facts = [f"default: {_number(default) if plain in (int, float) else default}"] if default not in (None, "") else []
    facts += [bounds] if (bounds := bounds_of(field)) else []
    text += f"  [{'; '.join(facts)}]" if facts else ""
    kind = click.Choice(choices) if choices else plain
    metavar = field.metadata["metavar"] or {int: "N", float: "X", str: None}.get(plain)
    return click.option(*names, field.name, type=kind, default=None, help=text, metavar=None if choices else metavar)


def bounds_of(field: dataclasses.Field[Any]) -> str:
    """The bounds of a field's value as Click tells them, such as `0<x<=1`; "" where there are none."""
    low, high, above, below = (field.metadata[key] for key in ("minimum", "maximum", "above", "below"))
    left = f"{_number(low)}<=" if low is not None else f"{_number(above)}<" if above is not None else ""
    right = f"<={_number(high)}" if high is not None else f"<{_number(below)}" if below is not None else ""
    if left and not right:
        return f"x>{'=' * (low is not None)}{left.rstrip('<=')}"
    return f"{left}x{right}" if right else ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


checkpoints_option = click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("checkpoints"),
    show_default=True,
    metavar="DIR",
    help="The folder that holds the runs.",
)

run_argument = click.argument("run", required=False, metavar="[RUN]")


def begin_computing() -> None:
    """When a command has imported what it needs: compiled programs are kept in the user's cache folder, and garbage
    is collected from here on.
    """
    from charrnn.training.devices import keep_compiled_programs, use_every_core

    use_every_core()
    keep_compiled_programs()
    gc.freeze()
    gc.enable()


def load_model(run: str | None, checkpoints: Path) -> Any:
    """Load a run for a command."""
    from charrnn.model import load

    begin_computing()
    return load(run, checkpoints)


def describe(model: Any) -> str:
    """A model in a line."""
    shape = model.config.model
    names = ", ".join(Path(source).name for source in model.config.corpus)
    name = f"{model.name}: " if model.name else ""
    return f"{name}{shape.cell} {shape.num_layers}x{shape.hidden_size} on {names}"


def read_prompt(file: str, name: str) -> str:
    """The text of a file, or of the standard input where it is `-`, to the letter.

    Raises ConfigError, under that name, when it cannot be read or is no UTF-8.
    """
    if file == "-" and sys.stdin.isatty():
        click.echo("type or paste a text; Ctrl-D ends it", err=True)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not valid UTF-8 at byte {error.start}") from error


def warn_of_unknown(model: Any, prompt: str) -> None:
    """Name the characters of a prompt that the model never learnt."""
    unknown = model.unknown(prompt)
    if unknown:
        names = ", ".join(repr(character) for character in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        which = "it stands" if len(unknown) == 1 else "they stand"
        click.echo(f"warning: the model never saw {names}; {which} as the unknown character", err=True)


_VISIBLE: dict[int, int | str] = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= {127: 0x2421} | {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}  # those a terminal obeys too


def shown(text: str, terminal: bool) -> str:
    """Generated text as it may be written: on a terminal, control characters are made visible."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written
    return text.translate(_VISIBLE) if terminal else text
