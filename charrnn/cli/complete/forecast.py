"""What the model would write next, worked out beside the typing: a thread that answers the latest question only."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from charrnn.reader import Guess, Reader

ALTERNATIVES = 5
_AHEAD = 48
_PAUSE = 0.03
"""Seconds without a key before the model is asked."""


@dataclass(frozen=True)
class Question:
    """A text so far, and what is being typed after it."""

    before: str
    typed: str


@dataclass(frozen=True)
class Forecast:
    """The answer: likely continuations, each with its next word and that word's probability, best first.

    bits: surprise of what was typed, per character; None when nothing was.
    """

    question: Question
    words: tuple[Guess, ...]
    continuations: tuple[str, ...]
    bits: float | None


def forecast(reader: Reader, question: Question, outdated: Callable[[], bool]) -> tuple[Reader, Forecast | None]:
    """Answer a question, and the reader that has read that far; no answer once the question is `outdated`."""
    reader = reader.follow(question.before).follow(question.before + question.typed)
    bits = reader.surprise(question.before)
    words, continuations = [], []
    for word in reader.words(ALTERNATIVES):
        if outdated():
            return reader, None
        if not word.text:  # the end of the text is nothing to show ahead of a cursor
            continue
        rest = "" if word.ends else reader.follow(reader.text + word.text).likeliest(_AHEAD).text
        words.append(word)
        continuations.append(until_line_end(word.text + rest))
    return reader, Forecast(question, tuple(words), tuple(continuations), bits)


def until_line_end(text: str) -> str:
    """The text up to its first line break; one that it begins with stays."""
    end = text.find("\n", 1)
    return text if end < 0 else text[:end]


class Forecaster:
    """Answers the latest question in a thread of its own; earlier ones that were not reached are forgotten."""

    def __init__(self, make_reader: Callable[[], Reader], answer: Callable[[Forecast], None]):
        self._make_reader, self._answer = make_reader, answer
        self._condition = threading.Condition()
        self._question: Question | None = None
        self._number = 0
        self._closed = False
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="forecast", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> None:
        """Ask; returns at once."""
        with self._condition:
            self._question, self._number = question, self._number + 1
            self._condition.notify()

    def forget(self) -> None:
        """Answer nothing until asked again."""
        with self._condition:
            self._question, self._number = None, self._number + 1

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._number += 1
            self._condition.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            reader = self._make_reader()
            while (question := self._next()) is not None:
                number = self._number
                reader, answer = forecast(reader, question, lambda number=number: self._number != number)  # type: ignore[misc]
                if answer is not None and self._number == number:
                    self._answer(answer)
        except Exception as error:  # the prompt raises it where a person can see it
            self.failure = error

    def _next(self) -> Question | None:
        """The latest question once no newer one has come for a moment; None at the end."""
        with self._condition:
            while not self._closed:
                if self._question is None:
                    self._condition.wait()
                elif not self._condition.wait(_PAUSE):  # nothing newer came
                    question, self._question = self._question, None
                    return question
            return None
