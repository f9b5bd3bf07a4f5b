"""The loop at a terminal: ask, obey or draw, and again."""

import threading
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import click
from prompt_toolkit.history import FileHistory, History
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from charrnn.cli.complete import at_home, carry_out, draw
from charrnn.cli.complete.commands import as_text, is_command, obey
from charrnn.cli.complete.prompt import Prompt
from charrnn.cli.complete.session import Session, Turn
from charrnn.cli.keys import keys_unseen
from charrnn.cli.options import describe
from charrnn.cli.stop import forget_interrupts
from charrnn.config import SampleConfig
from charrnn.errors import CharrnnError, ConfigError
from charrnn.text.cache import usable_cache_folder


class _History(FileHistory):
    """What was typed before, in a file; where that cannot be written, for this session alone."""

    def store_string(self, string: str) -> None:
        """Keep a line."""
        with suppress(OSError):
            super().store_string(string)


class Terminal:
    """A session at the prompt with a model."""

    def __init__(
        self,
        model: Any,
        checkpoints: Path,
        session: Session,
        history: History | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ):
        self.model, self.checkpoints, self.session = model, checkpoints, session
        self.speed, self._saved = 0.0, set[Path]()
        self._beginning: Any = None
        self._begun = False
        self._history = history or _History(str(usable_cache_folder() / "history"))
        self._input, self._output = input, output
        self._prompt = self._make_prompt()

    def _make_prompt(self) -> Prompt:
        self._warming = threading.Thread(target=self._warm, args=(self.model,), name="warm", daemon=True)
        self._warming.start()
        return Prompt(self.model.reader, self._history, self.bar, self._input, self._output)

    def _warm(self, model: Any) -> None:
        """Draw a little for nobody, so that what drawing needs is compiled before the first Enter."""
        with suppress(CharrnnError):  # the same error comes when a person draws
            for _ in islice(model.stream(**self.session.settings), 2):
                pass

    def _close(self) -> None:
        self._prompt.close()
        self._warming.join()

    def bar(self, bits: float | None) -> list[str]:
        """The parts of the bottom bar, the most important first."""
        temperature = self.session.settings.get("temperature", SampleConfig.temperature)
        parts = [self.model.name or "model", f"temp {temperature:g}"]
        if bits is not None:
            parts.append(f"{bits:.2f} bits/char typed")
        if self.speed:
            parts.append(f"{self.speed:,.0f} chars/s")
        return [*parts, "Tab others", "/help"]

    def run(self) -> None:
        """Until Ctrl-D or /bye."""
        click.echo(f"{describe(self.model)}\n/help lists keys and commands, Ctrl-D leaves", err=True)
        try:
            while True:
                forget_interrupts()
                with suppress(KeyboardInterrupt):  # Ctrl-C clears the line, or stops what is being done
                    try:
                        line = self._prompt.ask(self.session.text)
                    except EOFError:
                        return
                    with keys_unseen():
                        if not self._take(line):
                            return
        finally:
            self._close()

    def _take(self, line: str) -> bool:
        """Obey a command or draw after a text; False to leave."""
        if not is_command(line):
            self._draw(self.session, Turn(as_text(line), row=self.session.next_row))
            return True
        self._begun = False  # what a command says stands between the text and what comes
        outcome = obey(line, self.session)
        self.session = outcome.session
        if outcome.deed == "leave":
            return False
        if outcome.deed == "retry":
            self._retry()
            return True
        if outcome.deed == "save":
            click.echo(self._save(outcome.argument), err=True)
            return True
        model = carry_out(outcome, self.model, self.checkpoints)
        if model is not self.model:
            self._close()
            self.model, self.speed, self._beginning = model, 0.0, None
            self._prompt = self._make_prompt()
        return True

    def _retry(self) -> None:
        retried = self.session.retried()
        assert retried is not None, "obey answers when there is nothing to retry"
        before, turn = retried
        self._draw(before, turn)

    def _save(self, name: str) -> str:
        """Write all of the text, and say so; a file that this session did not write is left alone."""
        text = self.session.everything
        if not text:
            return "nothing to save yet"
        try:
            file = Path(at_home(name))
            if file not in self._saved and file.is_file() and file.stat().st_size:
                return f"{file}: there is a text already, which this would replace; give another name"
            file.write_text(text, "utf-8", errors="replace")
        except ConfigError as error:
            return str(error)
        except OSError as error:
            return f"{name}: cannot be written ({error.strerror})"
        except ValueError as error:  # a NUL in the name
            return f"{name!r}: cannot be written ({error})"
        self._saved.add(file)
        return f"{file}: {len(text):,} characters"

    def _draw(self, before: Session, turn: Turn) -> None:
        try:
            self._beginning = self.model.read(before.text + turn.typed, self._beginning)  # the new part of it alone
            begun = before.text.rpartition("\n")[2] if self._begun else ""
            turn, self.speed = draw(self.model, before, turn, self._beginning, begun)
            self._begun = not turn.ended
        except CharrnnError as error:  # settings that this model or this text cannot do; the session goes on
            click.echo(str(error), err=True)
            self._begun = False
            return
        turns = (*before.turns, turn)
        self.session = self.session.with_turns(turns)
        if turn.ended:
            click.echo(click.style("(the text ends here; the next one is new)", dim=True), err=True)
