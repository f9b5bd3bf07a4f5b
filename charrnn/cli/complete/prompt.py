"""The prompt: keys, ghost text and the bottom bar. It shows what `Forecaster` finds and returns what is typed."""

import re
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from charrnn.cli.complete.commands import is_command
from charrnn.cli.complete.forecast import Forecast, Forecaster, Question
from charrnn.cli.glyphs import END, NEWLINE, columns, ending, fitting, percent, visible
from charrnn.reader import Reader

_STYLE = Style.from_dict({
    "auto-suggestion": "fg:#888888", "before": "fg:#888888", "bottom-toolbar": "noreverse fg:#888888",
    "chosen": "reverse",
})  # fmt: skip


class VisibleLineBreaks(Processor):
    """Shows a line break in the ghost text by a sign; in the text itself it breaks the line."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """The line with its signs."""
        shown: StyleAndTextTuples = [
            (style, text.replace("\n", NEWLINE)) for style, text, *_ in transformation_input.fragments
        ]
        return Transformation(shown)


class Prompt:
    """Asks for the next piece of a text, showing what the model would write ahead of the cursor."""

    def __init__(
        self,
        make_reader: Callable[[], Reader],
        history: History,
        bar: Callable[[float | None], list[str]],
        input: Input | None = None,
        output: Output | None = None,
    ):
        """`bar` gives the bottom bar's parts, the most important first, from the surprise of what is typed.

        The ghost is what is typed with what is shown ahead of it; it is kept, whatever is forecast then, once a
        part of it was accepted, until something else is typed.
        """
        self._bar, self._before = bar, ""
        self.forecast: Forecast | None = None
        self.chosen = 0
        self._cycled = False
        self._ghost, self._kept = "", False
        self.forecaster = Forecaster(make_reader, self._answered)
        self.session: PromptSession[str] = PromptSession(
            history=history, multiline=True, key_bindings=self._bindings(), bottom_toolbar=self._toolbar,
            style=_STYLE, input=input, output=output, prompt_continuation="", input_processors=[VisibleLineBreaks()],
            reserve_space_for_menu=0,
        )  # fmt: skip
        self.session.app.erase_when_done = True
        self.session.default_buffer.on_text_changed += self._changed

    def ask(self, before: str) -> str:
        """What is typed after the text `before`, until Enter.

        Raises EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C.
        """
        self._before, self.forecast, self._cycled = before, None, False
        self._ghost, self._kept = "", False
        try:
            return self.session.prompt(self._message, pre_run=lambda: self._changed(self.session.default_buffer))
        finally:
            self.forecaster.forget()
            if self.forecaster.failure is not None:
                raise self.forecaster.failure

    def close(self) -> None:
        """End the thread beside the prompt."""
        self.forecaster.close()

    def _message(self) -> StyleAndTextTuples:
        room = max(8, get_app().output.get_size().columns // 2)
        line = visible(self._before.rsplit("\n", 1)[-1][-room - 1 :])
        tail = ending(line, room)
        return [("class:before", tail)] if tail else [("class:before", "> ")]

    def _changed(self, buffer: Buffer) -> None:
        """Keep what of the ghost was typed along, and ask for the rest."""
        typed = buffer.text
        buffer.suggestion, self._cycled = None, False
        if is_command(typed):
            self.forecaster.forget()
            return
        self._kept = self._kept and self._ghost.startswith(typed)
        if self._ghost.startswith(typed) and len(self._ghost) > len(typed):
            buffer.suggestion = Suggestion(self._ghost[len(typed) :])
        self.forecaster.ask(Question(self._before, typed))

    def _answered(self, forecast: Forecast) -> None:
        """Called by the forecaster's thread: hand over to the prompt's."""
        loop = self.session.app.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._show, forecast)

    def _show(self, forecast: Forecast) -> None:
        buffer = self.session.default_buffer
        if forecast.question == Question(self._before, buffer.text):
            self.forecast, self.chosen = forecast, 0
            if not (self._kept and len(self._ghost) > len(buffer.text)):
                self._suggest()
            self.session.app.invalidate()

    def _suggest(self) -> None:
        assert self.forecast is not None
        self._kept = False
        if self.forecast.continuations:
            rest, buffer = self.forecast.continuations[self.chosen], self.session.default_buffer
            self._ghost, buffer.suggestion = buffer.text + rest, Suggestion(rest)
        self.session.app.invalidate()

    def _cycle(self, by: int) -> None:
        """Another of the alternatives, if they are those of the text as it stands."""
        forecast = self.forecast
        if forecast is None or not forecast.continuations:
            return
        if forecast.question.typed == self.session.default_buffer.text:
            shown = -1 if self._kept and by > 0 else self.chosen  # the one that is kept may be none of them
            self.chosen, self._cycled = (shown + by) % len(forecast.continuations), True
            self._suggest()

    def _ahead(self) -> str:
        """What is shown ahead of the cursor."""
        buffer = self.session.default_buffer
        shown = buffer.suggestion is not None and buffer.document.is_cursor_at_the_end
        return buffer.suggestion.text if shown and buffer.suggestion else ""

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("escape", "f", filter=Condition(lambda: self._ahead() != ""))
        def _(event: KeyPressEvent) -> None:
            word = re.match(r"\s*\S*", self._ahead())
            assert word is not None, "it matches any text"
            self._kept = True
            event.current_buffer.insert_text(word.group())

        @bindings.add("tab")
        def _(event: KeyPressEvent) -> None:
            self._cycle(1)

        @bindings.add("s-tab")
        def _(event: KeyPressEvent) -> None:
            self._cycle(-1)

        return bindings

    def _toolbar(self) -> StyleAndTextTuples:
        width = get_app().output.get_size().columns
        bits = self.forecast.bits if self.forecast is not None else None
        parts: StyleAndTextTuples = [("", fitting(self._bar(bits), width))]
        if self._cycled and self.forecast is not None:
            parts += [("", "\n"), *alternatives(self.forecast, self.chosen, width)]
        return parts


def alternatives(forecast: Forecast, chosen: int, width: int) -> StyleAndTextTuples:
    """The next words and their probabilities in one row, the chosen one marked; the row begins where it is seen."""
    labels = [f" {visible(word.text.strip(' ')) or END} {percent(word.probability)} " for word in forecast.words]
    first = 0
    while first < chosen and sum(columns(label) for label in labels[first : chosen + 1]) > width:
        first += 1
    row: StyleAndTextTuples = []
    used = 0
    for number, label in enumerate(labels[first:], first):
        if used + columns(label) > width:
            break
        row.append(("class:chosen" if number == chosen else "", label))
        used += columns(label)
    return row
