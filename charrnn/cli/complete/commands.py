"""The `/` commands of the prompt: what a line asks for, without doing it."""

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

from charrnn.cli.complete.session import Session
from charrnn.errors import ConfigError

Deed = Literal["", "retry", "load", "save", "show", "help", "leave"]

COMMANDS = {
    "/set": (
        "NAME VALUE",
        'change a sampling option, such as /set temperature 0.6 or /set stop "\\n"; VALUE none is its default',
    ),
    "/show": ("", "show the run and every option; /show NAME one of them"),
    "/load": ("RUN", "go on with another run"),
    "/save": ("FILE", "write all of the text to a file"),
    "/retry": ("", "draw the last continuation anew"),
    "/undo": ("", "take the last step back"),
    "/clear": ("", "begin a new text"),
    "/help": ("", "show this"),
    "/bye": ("", "leave, as Ctrl-D does"),
}
_LEAVE = ("/bye", "/exit", "/quit")
_BACK = ("/save", "/retry", "/undo", "/clear")
_KEYS = (
    ("Enter", "the model goes on from the text"),
    ("Alt-Enter", "a new line"),
    ("Right, Ctrl-E", "accept what is shown ahead of the cursor"),
    ("Alt-F", "accept a word of it"),
    ("Tab, Shift-Tab", "another continuation, with its probability"),
    ("Up, Down", "what was typed before"),
    ("Ctrl-C", "stop the model; clear the line"),
    ("Ctrl-D", "leave"),
)
_COLUMN = 19
_TAIL = 40
"""Characters of the text that `/undo` shows."""


def help_for(width: int) -> str:
    """The keys and the commands, in so many columns."""
    rows = [*_KEYS, *((f"{name} {value}", what) for name, (value, what) in COMMANDS.items())]
    rows.append(("//...", "a text that begins with a slash"))
    return "\n".join(
        textwrap.fill(f"  {key:{_COLUMN - 3}} {what}", max(width, 2 * _COLUMN), subsequent_indent=" " * _COLUMN)
        for key, what in rows
    )


@dataclass(frozen=True)
class Outcome:
    """What a command comes to: the session after it, what to say, and what is left to do, with what."""

    session: Session
    say: str = ""
    deed: Deed = ""
    argument: str = ""


def is_command(line: str) -> bool:
    """Whether a typed line is meant as a command; a second slash makes it a text."""
    return line.startswith("/") and not line.startswith("//")


def is_known_command(line: str) -> bool:
    """Whether a line begins with a command that exists."""
    return line.split(" ", 1)[0].strip() in (*COMMANDS, *_LEAVE)


def needs_terminal(line: str) -> bool:
    """Whether a line is a command that goes back to what was written before."""
    return line.split(" ", 1)[0].strip() in _BACK


def as_text(line: str) -> str:
    """The text that a line which is no command stands for."""
    return line[1:] if line.startswith("//") else line


def obey(line: str, session: Session) -> Outcome:
    """What a command line asks for. A mistake is answered, never raised."""
    name, _, argument = line.strip().partition(" ")
    argument = argument.strip()
    if name in _LEAVE:
        return Outcome(session, deed="leave")
    if name not in COMMANDS:
        return Outcome(session, f"{name}: no such command; /help lists them, // begins a text with a slash")
    wants, what = COMMANDS[name]
    if bool(argument) != bool(wants) and name not in ("/set", "/show"):
        return Outcome(session, f"{name} {wants}: {what}" if wants else f"{name} takes nothing after it: {what}")
    match name:
        case "/set":
            return _set(argument, session)
        case "/show" if argument:
            return _set(argument.split()[0], session)  # without a value it shows the option
        case "/undo":
            before = session.undone()
            return Outcome(session, "nothing to undo") if before is None else Outcome(before, _standing(before))
        case "/clear":
            return Outcome(session.cleared(), "a new text; /undo brings the old one back")
        case "/retry":
            return Outcome(session, deed="retry") if session.turns else Outcome(session, "nothing to retry yet")
        case "/help":
            return Outcome(session, deed="help")
        case "/load":
            return Outcome(session, deed="load", argument=argument)
        case "/save":
            return Outcome(session, deed="save", argument=argument)
    return Outcome(session, deed="show")


def _set(argument: str, session: Session) -> Outcome:
    parts = re.fullmatch(r"([^\s=]*)(?:=\s*|\s+=\s+|\s+)?(.*)", argument, re.DOTALL)
    assert parts is not None, "it matches any text"
    name, value = parts.groups()
    try:
        if not value:
            return Outcome(session, "\n".join(session.shown_settings(name)))
        after = session.with_setting(name, value)
    except ConfigError as error:
        return Outcome(session, str(error))
    return Outcome(after, f"{name} is now {after.value_of(name)}")


def _standing(session: Session) -> str:
    text = session.text or session.everything
    cut = "..." if len(text) > _TAIL else ""
    return f"back to: {cut}{text[-_TAIL:]}" if text else "back to the beginning"
