"""`charrnn write`: its steps by tables, its keys in this process, and once as a person runs it."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from charrnn.cli.write import Choice, Writing, after, label_of, offered, tail_of, write_together
from charrnn.errors import StorageError
from charrnn.reader import Guess

OFFERS = [Guess(" the", 0.5), Guess(".", 0.2), Guess("", 0.1, True)]
START = Writing("once", before=Writing("on", before=Writing()))
STEPS = [
    (Choice("pick", 0), Writing("once the", whole=True, before=START), True),
    (Choice("pick", 2), START, False),
    (Choice("pick", 7), START, True),
    (Choice("type", text="\nhi"), Writing("once\nhi", before=START), True),
    (Choice("type"), START, True),
    (Choice("undo"), Writing("on", before=Writing()), True),
    (Choice("leave"), START, False),
]


@pytest.mark.parametrize(
    ("choice", "writing", "going"), STEPS, ids=[f"{step[0].kind} {step[0].number}" for step in STEPS]
)
def test_a_step(choice: Choice, writing: Writing, going: bool) -> None:
    assert after(START, choice, OFFERS) == (writing, going)


def test_undo_stops_at_the_beginning() -> None:
    assert Writing("x").undone() == Writing("x")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("1\x04", "1"), ("2\x04", "2"), ("12\x04", "12"), ("\r\x04", "1"), ("1\x7f\x04", ""), ("1\x1a\x04", ""),
        ("fad\r\x04", "fad"), ("fad\r1\x7f\x7f\x04", ""), ("a1\r\x04", "a1"), ("\x111\r\x04", "<1>"), ("\x03\x04", ""),
        ("a\x1b\rb\r\x04", "a\nb"),
    ],
)  # fmt: skip
def test_keys(letters: Any, keys: str, text: str) -> None:
    """`text` holds a digit for an offer taken, and `<1>` for the digit itself."""
    reader, expected = letters.reader(), ""
    if text == "<1>":
        expected = "1"
    else:
        for character in text:
            taken = character.isdigit() and text[0].isdigit()
            expected += reader.follow(expected).characters(4)[int(character) - 1].text if taken else character
    with create_pipe_input() as pipe:
        pipe.send_text(keys)
        *_, text = write_together(reader, Writing(), "character", 4, input=pipe, output=DummyOutput())
    assert text == expected


def test_whole_words_are_offered_and_the_end_of_the_text_last(letters: Any) -> None:
    def offered(text: str, whole: bool) -> str:
        return next(word.text for word in letters.reader().follow(text).words(3, whole) if not word.ends)

    first = offered("ab", False)
    second = offered("ab" + first, True)
    assert not second[0].isalpha()
    with create_pipe_input() as pipe:
        pipe.send_text("11\x04")
        texts = list(write_together(letters.reader(), Writing("ab"), "word", 3, input=pipe, output=DummyOutput()))
    assert texts[-1] == "ab" + first + second


class Impatient:
    """A reader with no offers, which Ctrl-C meets while it works, once."""

    interrupted = False

    def follow(self, text: str) -> "Impatient":
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return self

    def characters(self, top: int) -> list[Guess]:
        return []


def test_an_interrupt_while_the_model_works_leaves_the_text_as_it_is() -> None:
    with create_pipe_input() as pipe:
        pipe.send_text("on\r\x04")
        reader: Any = Impatient()
        *_, text = write_together(reader, Writing("go "), "character", 4, input=pipe, output=DummyOutput())
    assert reader.interrupted and text == "go on"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, StorageError("no space left")], ids=repr)
def test_whatever_ends_it_the_text_is_written(
    charrnn: Callable[..., Result], failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Iterator[str]:
        yield "once upon a time"
        raise failure

    monkeypatch.setattr("charrnn.cli.write.write_together", fail)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    assert charrnn("write", "letters").stdout.endswith("once upon a time\n")


def test_a_run_that_is_not_there_leaves_no_file(
    charrnn: Callable[..., Result], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    done = charrnn("write", "nosuch", "--prompt", "The fox", "--out", str(tmp_path / "story.txt"))
    assert done.exit_code == 2 and "nosuch" in done.stderr and not (tmp_path / "story.txt").exists()


@pytest.mark.parametrize("width", [10, 44, 80])
def test_offers_fit_the_terminal(width: int) -> None:
    offers = [*OFFERS, Guess(" a-very-long-word-that-is-longer-than-the-terminal", 0.9)]
    lines = "".join(fragment[1] for fragment in offered(offers, width)).split("\n")
    assert len(lines) == 5
    if width >= 44:
        assert all(len(line) <= width for line in lines)
    assert lines[0].split()[:3] == ["1", "the", "50%"] or width < 44


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" the", "the"),
        ("", "¶ end of text"),
        (" ", "␣ space"),
        ("\n", "↵ newline"),
        ("  \n", "␣␣↵ newline"),
        ("é", "é"),
        ("\x1b", "␛"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert label_of(text) == label


def test_the_tail_of_a_long_text() -> None:
    assert tail_of("a\nb", 20) == "a\nb"
    assert tail_of("x" * 500, 20) == "…" + "x" * 159
    assert tail_of("\n".join(map(str, range(20))), 20).split("\n") == [str(n) for n in range(12, 20)]


def test_without_a_terminal_it_says_so(charrnn: Callable[..., Result]) -> None:
    done = charrnn("write", stdin="1\n")
    assert done.exit_code == 2 and "needs a terminal" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_who_is_told_to_stop_keeps_the_text(open_terminal: Callable[..., Any], number: signal.Signals) -> None:
    terminal = open_terminal("write", "letters", "--by", "character", "--prompt", "ab", "--top", "1")
    terminal.expect("digit takes")
    terminal.signal(number)
    code, shown = terminal.leave()
    assert code == 143 and shown.rstrip().endswith("ab")


def test_as_a_person_runs_it(open_terminal: Callable[..., Any], tmp_path: Path, letters: Any) -> None:
    story = tmp_path / "story.txt"
    terminal = open_terminal("write", "letters", "--by", "character", "--prompt", "ab", "--out", str(story))
    terminal.expect("digit takes")
    terminal.send("1")
    terminal.expect("digit takes")
    terminal.send("\x04")
    code, shown = terminal.leave()
    written = "ab" + letters.reader().follow("ab").characters(1)[0].text
    assert (code, story.read_text("utf-8")) == (0, written)
    assert written.strip() in shown and "3 characters" in shown
