"""What a session at the prompt is: the text so far, the settings, and how to get back. Nothing here does anything."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from charrnn.config import SampleConfig, from_options
from charrnn.errors import ConfigError
from charrnn.fields import flag_of, value_types

LENGTH = 400
"""Characters that the model goes on at most when no length is given."""

_YES, _NO = ("on", "true", "yes", "1"), ("off", "false", "no", "0")
_UNSET = ("none", "default")


@dataclass(frozen=True)
class Turn:
    """What a person typed and what was drawn after it. row: which of the seed's texts; ended: the model ended it."""

    typed: str
    drawn: str = ""
    ended: bool = False
    row: int = 0


@dataclass(frozen=True)
class Session:
    """The turns so far, the settings, and the earlier turns that `/undo` goes back to."""

    turns: tuple[Turn, ...] = ()
    settings: dict[str, Any] = field(default_factory=lambda: {"length": LENGTH})
    past: tuple[tuple[Turn, ...], ...] = ()

    @property
    def text(self) -> str:
        """What the model goes on from: the turns since a text last ended."""
        text = ""
        for turn in self.turns:
            text = "" if turn.ended else text + turn.typed + turn.drawn
        return text

    @property
    def everything(self) -> str:
        """All that was written, each ended text followed by a newline."""
        return "".join(turn.typed + turn.drawn + "\n" * turn.ended for turn in self.turns)

    def with_turns(self, turns: tuple[Turn, ...]) -> "Session":
        """Other turns; `undone` gives these back."""
        return dataclasses.replace(self, turns=turns, past=(*self.past, self.turns))

    def then(self, turn: Turn) -> "Session":
        """One more turn."""
        return self.with_turns((*self.turns, turn))

    def cleared(self) -> "Session":
        """A new text."""
        return self.with_turns(())

    def undone(self) -> "Session | None":
        """As it was one step ago, or None at the start."""
        return dataclasses.replace(self, turns=self.past[-1], past=self.past[:-1]) if self.past else None

    @property
    def next_row(self) -> int:
        """The first of the seed's texts that no turn was, taken back or not: else the same noise would come again."""
        return max((turn.row + 1 for turns in (self.turns, *self.past) for turn in turns), default=0)

    def retried(self) -> "tuple[Session, Turn] | None":
        """The session before the last turn, and that turn to be drawn anew; None when there is none."""
        if not self.turns:
            return None
        last = self.turns[-1]
        return dataclasses.replace(self, turns=self.turns[:-1]), Turn(last.typed, row=self.next_row)

    def with_setting(self, name: str, value: str) -> "Session":
        """Another value for a sampling option, given as a person types it; texts in double quotes are as in JSON.

        Raises ConfigError for a name or a value that is none.
        """
        field_name = _field_of(name)
        settings = dict(self.settings)
        if value.lower() in _UNSET:
            settings.pop(field_name, None)
            settings = {"length": LENGTH} | settings
        else:
            settings[field_name] = _parsed(field_name, value)
        from_options(SampleConfig, settings)
        return dataclasses.replace(self, settings=settings)

    def shown_settings(self, name: str = "") -> list[str]:
        """Every option and its value, one a line, or the named one; those that were set are marked.

        Raises ConfigError for a name that is none.
        """
        wanted = _field_of(name) if name else ""
        usual, values = _usual_values(), _usual_values() | self.settings
        return [
            f"  {name:16} {_shown(values[name])}{'  (set)' if values[name] != usual[name] else ''}"
            for name in usual
            if wanted in ("", name)
        ]

    def value_of(self, name: str) -> str:
        """The value of an option, as it is shown. Raises ConfigError for a name that is none."""
        return _shown((_usual_values() | self.settings)[_field_of(name)])


def _usual_values() -> dict[str, Any]:
    """What every option is at the prompt unless it is set."""
    return {entry.name: entry.default for entry in dataclasses.fields(SampleConfig)} | {"length": LENGTH}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in (None, "", ()):
        return "none"
    if isinstance(value, tuple):
        quoted = _quoted if len(value) == 1 else partial(json.dumps, ensure_ascii=False)
        return " ".join(map(quoted, value))
    if isinstance(value, str):
        return _quoted(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _field_of(name: str) -> str:
    """The option that a person means: by its name or its flag, with hyphens or underscores."""
    wanted = name.lstrip("-").replace("-", "_")
    fields = dataclasses.fields(SampleConfig)
    for entry in fields:
        if wanted in (entry.name, flag_of(entry).lstrip("-").replace("-", "_")):
            return entry.name
    raise ConfigError(f"{name}: no such option; there are {', '.join(entry.name for entry in fields)}")


def _parsed(name: str, value: str) -> Any:
    plain = value_types(SampleConfig)[name][0]
    if plain is bool:
        if value.lower() not in (*_YES, *_NO):
            raise ConfigError(f"{name} is on or off, not {value}")
        return value.lower() in _YES
    if plain not in (int, float):
        texts = _texts(value)
        if plain is tuple:
            return texts
        if len(texts) > 1:
            raise ConfigError(f"{name} takes one text, not {len(texts)}")
        return texts[0]
    try:
        return plain(value)
    except ValueError:
        raise ConfigError(f"{name} must be a {'whole ' * (plain is int)}number, not {value}") from None


_QUOTED = r'"(?:[^"\\]|\\.)*"'


def _texts(value: str) -> tuple[str, ...]:
    """The texts in double quotes that a value is made of, or the value to the letter."""
    if value[:1] != '"' or value == '"':
        return (value,)
    if not re.fullmatch(rf"{_QUOTED}(?:\s+{_QUOTED})*", value):
        raise ConfigError(f'{value}: what begins with a double quote is "A TEXT" or "ONE" "ANOTHER"')
    try:
        return tuple(json.loads(text) for text in re.findall(_QUOTED, value))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{value}: {error.msg}") from error


def _quoted(text: str) -> str:
    """A text as it may be typed: in quotes where it would not be seen, or not be taken to the letter."""
    plain = text.isprintable() and text == text.strip() and text[:1] != '"' and text.lower() not in (*_UNSET, "")
    return text if plain else json.dumps(text, ensure_ascii=False)
