"""`charrnn write`: a person and the model write a text together."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from charrnn.cli.glyphs import bar, columns, ending, fitted, fitting, glyph, named, percent, visible
from charrnn.cli.keys import keys_unseen
from charrnn.cli.options import checkpoints_option, load_model, run_argument, shown, warn_of_unknown
from charrnn.cli.stop import stop_when_terminated
from charrnn.errors import CharrnnError, ConfigError, StorageError

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import Output

    from charrnn.reader import Guess, Reader

By = Literal["character", "word"]
_MOST_LINES = 8
_BAR = 20
_HELP = ["digit takes", "Backspace undoes", "Ctrl-D ends", "or type, then Enter"]


@dataclass(frozen=True)
class Writing:
    """A text in the making. whole: its last word was offered as a whole one. before: what it was a step ago."""

    text: str = ""
    whole: bool = False
    before: "Writing | None" = None

    def plus(self, piece: str, whole: bool = False) -> "Writing":
        """The text with a piece added."""
        return Writing(self.text + piece, whole, self) if piece else self

    def undone(self) -> "Writing":
        """The text before the last step; at the start, as it is."""
        return self.before or self


@dataclass(frozen=True)
class Choice:
    """What a person did: `pick` an offer by its number from 0, `type` a text, `undo`, or `leave`."""

    kind: Literal["pick", "type", "undo", "leave"]
    number: int = 0
    text: str = ""


def after(writing: Writing, choice: Choice, offers: "list[Guess]") -> tuple[Writing, bool]:
    """The writing after a choice, and whether it goes on: the end of the text, picked, ends it."""
    if choice.kind == "leave":
        return writing, False
    if choice.kind == "undo":
        return writing.undone(), True
    if choice.kind == "type":
        return writing.plus(choice.text), True
    if choice.number >= len(offers):
        return writing, True
    offer = offers[choice.number]
    return writing.plus(offer.text, whole=True), not offer.ends


@click.command()
@run_argument
@checkpoints_option
@click.option(
    "--by", type=click.Choice(("character", "word")), default="word", show_default=True, help="What the model offers."
)
@click.option("--top", type=click.IntRange(1, 9), default=8, show_default=True, metavar="N", help="How many it offers.")
@click.option("--prompt", default="", metavar="TEXT", help="The text to begin with.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write the text to a file, at every step.")  # fmt: skip
def write(run: str | None, checkpoints: Path, by: By, top: int, prompt: str, out: Path | None) -> None:
    """Write a text together with RUN (the newest when not given).

    It offers the likeliest next words or characters: a digit takes one, Enter the first. Anything else
    that is typed goes into the text with Enter; Ctrl-Q before a digit types it. Backspace on an empty
    line (or Ctrl-Z) takes the last step back. Ctrl-D leaves, and the text goes to the standard output.
    """
    out = None if out == Path("-") else out  # where the text goes anyway
    if not sys.stdin.isatty():
        raise ConfigError("charrnn write needs a terminal to type in; charrnn complete takes piped lines")
    if out is not None and out.is_file() and out.stat().st_size:
        raise ConfigError(f"--out {out}: there is a text already, which this would replace; give another name")
    text = prompt
    stop_when_terminated()
    with keys_unseen():
        model = load_model(run, checkpoints)
        warn_of_unknown(model, prompt)
        if out is not None:
            _save(out, prompt, ConfigError)
        try:
            for text in write_together(model.reader(), Writing(prompt), by, top):
                if out is not None:
                    _save(out, text, StorageError)
        finally:  # whatever ended it, what was written is not lost
            click.echo(shown(text, sys.stdout.isatty()))
    if out is not None:
        click.echo(f"{out}: {len(text):,} characters", err=True)


def _save(out: Path, text: str, failure: type[CharrnnError]) -> None:
    """Write the text so far. Raises `failure` when the file cannot be written."""
    try:
        out.write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise failure(f"--out {out}: cannot be written ({error.strerror})") from error


def write_together(
    reader: "Reader",
    writing: Writing,
    by: By,
    top: int,
    input: "Input | None" = None,
    output: "Output | None" = None,
) -> Iterator[str]:
    """The text after each step, until the person leaves or takes the end of the text."""
    from prompt_toolkit.output.defaults import create_output

    output = output or create_output(stdout=sys.stderr)  # the standard output is for the text
    going = True
    while going:
        try:
            reader = reader.follow(writing.text)
            found = reader.words(top, writing.whole) if by == "word" else reader.characters(top)
            offers = sorted(found, key=lambda offer: offer.ends)  # the end last: it cannot be taken back
        except KeyboardInterrupt:  # as at the prompt it leaves the text as it is
            continue
        writing, going = after(writing, ask(writing.text, offers, input, output), offers)
        yield writing.text


def ask(text: str, offers: "list[Guess]", input: "Input | None", output: "Output") -> Choice:
    """Show the text and the offers, and wait for a choice."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.styles import Style

    style = Style.from_dict({"bottom-toolbar": "noreverse", "help": "fg:#888888", "bar": "fg:#888888"})
    session: PromptSession[Choice] = PromptSession(
        key_bindings=_bindings(len(offers)), style=style, input=input, output=output, reserve_space_for_menu=0,
        bottom_toolbar=lambda: offered(offers, output.get_size().columns),
    )  # fmt: skip
    session.app.erase_when_done = True
    try:
        return session.prompt(lambda: tail_of(text, output.get_size().columns))
    except EOFError:
        return Choice("leave")
    except KeyboardInterrupt:
        return Choice("type")


def tail_of(text: str, width: int) -> str:
    """The last lines of a text, as far as they fit above the offers."""
    kept: list[str] = []
    rows = _MOST_LINES
    for line in reversed(text.split("\n")[-_MOST_LINES:]):
        shown = ending(visible(line[-rows * width - 1 :]), rows * width)
        kept.insert(0, shown)
        rows -= max(1, math.ceil(columns(shown) / width))
        if rows <= 0:
            break
    return "\n".join(kept)


def offered(offers: "list[Guess]", width: int) -> "StyleAndTextTuples":
    """The offers, one a line, with their probabilities, and how to take them."""
    labels = [label_of(offer.text) for offer in offers]
    column = min(max(map(columns, labels), default=1), max(4, width - 14))
    room = max(0, min(_BAR, width - column - 14))
    parts: StyleAndTextTuples = []
    for number, (label, offer) in enumerate(zip(labels, offers, strict=True), 1):
        parts.append(("", f"{number}  {fitted(label, column)} {percent(offer.probability):>6} "))
        parts.append(("class:bar", bar(offer.probability, room) + "\n"))
    return [*parts, ("class:help", fitting(_HELP, width))]


def label_of(text: str) -> str:
    """An offer as it is shown: a character that cannot be seen by its name."""
    if not text:
        return f"{glyph(text)} {named(text)}"
    stripped = text.lstrip(" ")
    if not stripped or named(stripped):
        blanks = glyph(" ") * (len(text) - len(stripped))
        return f"{blanks}{glyph(stripped) if stripped else ''} {named(stripped or ' ')}"
    return visible(stripped)


def _bindings(offers: int) -> "KeyBindings":
    from prompt_toolkit.application import get_app
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    empty = Condition(lambda: not get_app().current_buffer.text)

    def leave_with(event: "KeyPressEvent", choice: Choice) -> None:
        event.app.exit(result=choice)

    for number in range(offers):
        bindings.add(str(number + 1), filter=empty)(lambda event, n=number: leave_with(event, Choice("pick", n)))
    bindings.add("backspace", filter=empty)(lambda event: leave_with(event, Choice("undo")))
    bindings.add("c-z")(lambda event: leave_with(event, Choice("undo")))
    bindings.add("enter", filter=empty)(lambda event: leave_with(event, Choice("pick", 0)))
    bindings.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    bindings.add("enter", filter=~empty)(
        lambda event: leave_with(event, Choice("type", text=event.current_buffer.text))
    )
    return bindings
