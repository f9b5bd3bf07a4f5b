"""Configuration fields that carry their bounds and their help, and one check for all of them."""

import dataclasses
import math
import reprlib
from typing import Any, Literal, get_args, get_origin, get_type_hints

from charrnn.errors import ConfigError


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    cells: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that is also a command-line option.

    `minimum` and `maximum` are inclusive bounds, `above` and `below` exclusive ones; `flag` is the
    option's name where it is not the field's own, and a field whose default is None is derived
    from the text and the budget when it is not given. `cells` are those for which it means anything.
    """
    metadata = {
        "help": help, "flag": flag, "metavar": metavar,
        "minimum": minimum, "maximum": maximum, "above": above, "below": below, "cells": cells,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def flag_of(field: dataclasses.Field[Any]) -> str:
    """The command-line name of a configuration field, such as `--hidden`."""
    return field.metadata.get("flag") or "--" + field.name.replace("_", "-")


def on_one_line(value: Any) -> str:
    """A setting's value as it is told: a text with its line breaks written as on the command line."""
    return repr(value)[1:-1] if isinstance(value, str) else str(value)


def value_types(config_class: type) -> dict[str, tuple[type, tuple[Any, ...], bool]]:
    """For each field: its plain type, its choices if it is a Literal, and whether it may be None."""
    types: dict[str, tuple[type, tuple[Any, ...], bool]] = {}
    for name, hint in get_type_hints(config_class).items():
        arguments = get_args(hint)
        optional = type(None) in arguments
        if get_origin(hint) is Literal:
            types[name] = (str, arguments, False)
        elif get_origin(hint) is tuple:
            types[name] = (tuple, (), False)
        else:
            types[name] = (arguments[0] if optional else hint, (), optional)
    return types


_LONGEST_NUMBER = 40
_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", tuple: "texts"}


def check_fields(config: Any) -> None:
    """Check every field of a configuration by itself against its type, choices and bounds.

    Raises ConfigError naming the option, what is allowed and what was given.
    """
    types = value_types(type(config))
    for field in dataclasses.fields(config):
        plain, choices, optional = types[field.name]
        value, name = getattr(config, field.name), flag_of(field)
        if value is None and optional:
            continue
        if choices and value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {_shown(value)}")
        if not _is_a(value, plain):
            raise ConfigError(f"{name} must be {_KINDS[plain]}, not {_shown(value)}")
        if plain in (int, float):
            _check_bounds(name, value, field.metadata)
        cells = field.metadata["cells"]
        if cells and value != field.default and config.cell not in cells:
            raise ConfigError(f"{name} does nothing for --cell {config.cell}; it is for {', '.join(cells)}")


def _shown(value: Any) -> str:
    """A value as it was given, in short: a file may hold anything."""
    return reprlib.repr(value)


def _number(value: float) -> str:
    digits = f"{value:,}"
    return digits if len(digits) <= _LONGEST_NUMBER else f"{digits[:_LONGEST_NUMBER]}..."


def _is_a(value: Any, plain: type) -> bool:
    if plain is tuple:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    if plain is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, plain)


def _check_bounds(name: str, value: float, bounds: Any) -> None:
    low, high, above, below = (bounds[key] for key in ("minimum", "maximum", "above", "below"))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value}")
    if low is not None and value < low:
        raise ConfigError(f"{name} must be at least {low:g}, not {_number(value)}")
    if high is not None and value > high:
        raise ConfigError(f"{name} must be at most {high:,}, not {_number(value)}")
    if above is not None and value <= above:
        raise ConfigError(f"{name} must be greater than {above:g}, not {_number(value)}")
    if below is not None and value >= below:
        raise ConfigError(f"{name} must be less than {below:g}, not {_number(value)}")
