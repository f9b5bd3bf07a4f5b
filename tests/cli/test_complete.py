"""`charrnn complete`: its state and its commands by tables, its keys in this process, and once as a person runs it."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import charrnn.cli.complete.prompt as prompt_module
from charrnn.cli.complete.commands import COMMANDS, as_text, help_for, is_command, is_known_command, obey
from charrnn.cli.complete.forecast import Forecast, Forecaster, Question, forecast, until_line_end
from charrnn.cli.complete.prompt import Prompt, alternatives
from charrnn.cli.complete.session import Session, Turn
from charrnn.cli.complete.terminal import Terminal
from charrnn.cli.glyphs import fitting
from charrnn.errors import ConfigError
from charrnn.generation import decode
from charrnn.reader import Guess

ONCE = Session().then(Turn("Once", " upon")).then(Turn(" a", " time."))


def test_a_session_is_one_text_until_the_model_ends_it() -> None:
    assert ONCE.text == ONCE.everything == "Once upon a time."
    ended = ONCE.then(Turn("", " The end", ended=True))
    assert (ended.text, ended.everything) == ("", "Once upon a time. The end\n")
    assert ended.then(Turn("Then", "!")).text == "Then!"


def test_every_step_can_be_undone() -> None:
    assert ONCE.undone() == Session().then(Turn("Once", " upon"))
    assert ONCE.cleared().undone() == ONCE
    assert Session().undone() is None
    before, turn = ONCE.retried() or (None, None)
    assert (before.text, turn) == ("Once upon", Turn(" a", row=1))
    again = before.with_turns((*before.turns, replace(turn, drawn=" day")))
    assert again.text == "Once upon a day"
    assert again.retried()[1].row == again.next_row == 2
    assert again.undone().next_row == 1 and Session().next_row == 0
    assert ONCE.cleared().next_row == 1  # what was taken back was drawn all the same
    assert Session().retried() is None


@pytest.mark.parametrize(
    ("name", "value", "field", "parsed"),
    [
        ("temperature", "0.6", "temperature", 0.6), ("temp", "0", "temperature", 0.0),
        ("--temp", "1", "temperature", 1.0),
        ("top-k", "5", "top_k", 5), ("top_k", "5", "top_k", 5), ("length", "20", "length", 20),
        ("seed", "7", "seed", 7),
        ("ignore-eos", "on", "ignore_eos", True), ("ignore-eos", "no", "ignore_eos", False),
        ("stop", "the end", "stop", ("the end",)),
    ],
)  # fmt: skip
def test_settings(name: str, value: str, field: str, parsed: Any) -> None:
    assert Session().with_setting(name, value).settings[field] == parsed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", "-1", "at least 0"), ("temperature", "warm", "must be a number"),
        ("temperature", "nan", "finite"),
        ("length", "1.5", "whole number"), ("ignore-eos", "maybe", "on or off"), ("colour", "red", "no such option"),
        ("top-p", "0", "greater than 0"),
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Session().with_setting(name, value)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [("/set regex [a=]+", "regex", "[a=]+"), ("/set stop a=b", "stop", ("a=b",)), ("/set allow =+-", "allow", "=+-"),
     ("/set forbid -", "forbid", "-"), ("/set temp=0.5", "temperature", 0.5), ("/set top_k = 3", "top_k", 3),
     ("/set stop a b", "stop", ("a b",))],
)  # fmt: skip
def test_a_value_is_set_to_the_letter(line: str, field: str, value: Any) -> None:
    assert obey(line, Session()).session.settings[field] == value


@pytest.mark.parametrize(("line", "field", "value", "shown"), [
    ('/set stop "\\n"', "stop", ("\n",), '"\\n"'), ('/set stop "\\n" "END"', "stop", ("\n", "END"), '"\\n" "END"'),
    ("/set stop END", "stop", ("END",), "END"), ('/set stop "', "stop", ('"',), '"\\""'),
    ('/set forbid " "', "forbid", " ", '" "'), ("/set allow none", "allow", None, "none"),
    ("/set temperature none", "temperature", None, "0.8"), ("/set length none", "length", 400, "400"),
])  # fmt: skip
def test_texts_are_set_to_the_letter_or_as_in_json(line: str, field: str, value: Any, shown: str) -> None:
    outcome = obey(line, Session())
    assert outcome.session.settings.get(field) == value
    assert outcome.say == f"{field} is now {shown}"


@pytest.mark.parametrize(("line", "say"), [
    ('/set forbid "a" "b"', "forbid takes one text, not 2"), ('/set stop "\\d"', "Invalid \\escape"),
    ("/set regex [a", "not a regular expression"), ('/set stop "a" b', "begins with a double quote"),
    ('/set stop "a', "begins with a double quote"),
])  # fmt: skip
def test_a_wrong_text_changes_nothing(line: str, say: str) -> None:
    outcome = obey(line, Session())
    assert say in outcome.say and outcome.session == Session()


def test_what_is_set_is_marked() -> None:
    assert not any("(set)" in line for line in Session().shown_settings())
    assert "(set)" in Session().with_setting("length", "7").shown_settings("length")[0]


def test_a_setting_can_be_given_back() -> None:
    session = Session().with_setting("seed", "7").with_setting("seed", "none")
    assert "seed" not in session.settings
    assert Session().with_setting("length", "7").with_setting("length", "none") == Session()
    assert any(re.fullmatch(r"  temperature +0\.6  \(set\)", line)
               for line in Session().with_setting("temp", "0.6").shown_settings())  # fmt: skip


COMMAND_LINES = [
    ("/set temperature 0.6", "temperature is now 0.6", ""), ("/set temperature=0.6", "temperature is now 0.6", ""),
    ("/set temperature hot", "must be a number", ""), ("/set", "top_k", ""),
    ("/set temp", "temperature      0.8", ""), ("/set warmth", "no such option", ""), ("/show", "", "show"),
    ("/show temp", "temperature      0.8", ""), ("/show warmth", "no such option", ""),
    ("/load letters", "", "load"), ("/load", "/load RUN", ""),
    ("/save a b.txt", "", "save"), ("/save", "/save FILE", ""),
    ("/retry", "", "retry"), ("/undo", "back to: Once upon", ""), ("/clear", "a new text", ""),
    ("/help", "", "help"), ("/bye", "", "leave"), ("/quit", "", "leave"),
    ("/undo it", "takes nothing after it", ""),
    ("/nonsense", "/nonsense: no such command", ""), ("/", "/: no such command", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "say", "deed"), COMMAND_LINES, ids=[row[0] for row in COMMAND_LINES])
def test_commands(line: str, say: str, deed: str) -> None:
    outcome = obey(line, ONCE)
    assert say in outcome.say and outcome.deed == deed
    assert bool(outcome.say) != bool(deed)


def test_commands_at_the_beginning_have_nothing_to_take_back() -> None:
    assert obey("/undo", Session()).say == "nothing to undo"
    assert obey("/retry", Session()).say == "nothing to retry yet"
    assert obey("/save a b.txt", ONCE).argument == "a b.txt"


@pytest.mark.parametrize("width", [44, 80])
def test_the_help_names_every_command_and_fits(width: int) -> None:
    lines = help_for(width).split("\n")
    assert max(map(len, lines)) <= width and len(lines) < 40
    assert {line.split()[0] for line in lines} >= {*COMMANDS, "Alt-Enter", "//..."}


@pytest.mark.parametrize(
    ("line", "command", "known", "text"),
    [("/set x", True, True, "/set x"), ("//usr", False, False, "/usr"), ("/usr/bin", True, False, "/usr/bin"),
     ("a /set", False, False, "a /set"), ("", False, False, "")],
)  # fmt: skip
def test_what_is_a_command(line: str, command: bool, known: bool, text: str) -> None:
    assert (is_command(line), is_known_command(line), as_text(line)) == (command, known, text)


def test_piped_lines_are_completed(charrnn: Callable[..., Result], letters: Any) -> None:
    piped = "/set temp 0\n/set length 10\nab\n/save ab.txt\n\n/usr\n//set\n/set temp -1\n/bye\nnot read\n"
    done = charrnn("complete", "letters", stdin=piped)
    assert done.exit_code == 0, done.stderr
    options = {"temperature": 0, "length": 10}
    expected = "".join(letters.complete(line, **options) + "\n" for line in ("ab", "", "/usr", "/set"))
    assert done.stdout == expected
    assert "temp is now 0" in done.stderr and "--temp must be at least 0" in done.stderr
    assert "/save needs a terminal" in done.stderr


def test_piped_lines_may_end_as_in_windows(charrnn: Callable[..., Result]) -> None:
    options = ("complete", "letters", "--length", "10", "--seed", "1")
    assert charrnn(*options, stdin=b"ab\r\n\r\ncd\r\n").stdout == charrnn(*options, stdin="ab\n\ncd\n").stdout


def test_a_forecast_is_what_the_reader_expects(letters: Any) -> None:
    reader = letters.reader()
    _, answer = forecast(reader, Question("ab", "c"), lambda: False)
    assert answer is not None
    after = reader.follow("abc")
    assert list(answer.words) == [word for word in after.words(5) if word.text]
    assert answer.bits == pytest.approx((letters.score("abc").bits - letters.score("ab").bits), rel=1e-4)
    for word, continuation in zip(answer.words, answer.continuations, strict=True):
        assert continuation == until_line_end(word.text + after.follow("abc" + word.text).likeliest(48).text)
    assert forecast(reader, Question("ab", "c"), lambda: True)[1] is None


@pytest.mark.parametrize(("text", "kept"), [("ab", "ab"), ("ab\nc", "ab"), ("\nab\nc", "\nab"), ("", "")])
def test_ghost_text_is_of_one_line(text: str, kept: str) -> None:
    assert until_line_end(text) == kept


def test_the_forecaster_answers_the_latest_question(letters: Any) -> None:
    answers, last = [], threading.Event()

    def answer(forecast: Forecast) -> None:
        answers.append(forecast.question)
        if forecast.question.typed == "abcdef":
            last.set()

    forecaster = Forecaster(letters.reader, answer)
    for size in range(7):
        forecaster.ask(Question("", "abcdef"[:size]))
    assert last.wait(60)
    forecaster.forget()
    forecaster.close()
    assert answers[-1] == Question("", "abcdef") and len(answers) < 7
    assert forecaster.failure is None


def test_a_failure_beside_the_prompt_is_raised_in_it() -> None:
    def fail() -> Any:
        raise RuntimeError("out of memory")

    with create_pipe_input() as pipe:
        prompt = Prompt(fail, InMemoryHistory(), lambda bits: ["bar"], pipe, DummyOutput())
        prompt.close()
        pipe.send_text("a\r")
        with pytest.raises(RuntimeError, match="out of memory"):
            prompt.ask("")


class AtOnce:
    """A forecaster that answers while it is asked, after a space only: always the same two continuations."""

    failure = None

    def __init__(self, make_reader: Any, answer: Any):
        self.prompt = answer.__self__

    def ask(self, question: Question) -> None:
        words = (Guess("cat sat", 0.5), Guess("dog", 0.25))
        if question.typed.endswith(" ") or not question.typed:
            self.prompt._show(Forecast(question, words, ("cat sat", "dog ran"), 1.5))
        if question.typed == "the dog":
            self.prompt._show(Forecast(question, (Guess(" barks", 0.5),), (" barks",), 1.5))

    def forget(self) -> None:
        pass

    close = forget


@pytest.mark.parametrize(
    ("keys", "typed"),
    [
        ("the \r", "the "), ("the \x1b[C\r", "the cat sat"), ("the \x05\r", "the cat sat"), ("the \x1bf\r", "the cat"),
        ("the \x1bf\x1bf\r", "the cat sat"),
        ("the \t\x05\r", "the dog ran"), ("the \t\t\x05\r", "the cat sat"), ("the \x1b[Z\x05\r", "the dog ran"),
        ("\x05\r", "cat sat"), ("a\x1b\rb\r", "a\nb"), ("the \t\x1bf\r", "the dog"),
        ("the \t\x1bf\x05\r", "the dog ran"),
        ("the \t\x1bf\t\x05\r", "the dog barks"), ("the dog\x05\r", "the dog barks"), ("never\t\x05\r", "never"),
        ("the ca\x05\r", "the cat sat"), ("the cx\x05\r", "the cx"), ("the d\x05\r", "the d"),
        ("the \td\x05\r", "the dog ran"),
        ("/set\x05\r", "/set"), ("ab\x1b[D\x1b[C\r", "ab"),
    ],
)  # fmt: skip
def test_keys(keys: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_module, "Forecaster", AtOnce)
    with create_pipe_input() as pipe:
        prompt = Prompt(lambda: None, InMemoryHistory(), lambda bits: ["bar"], pipe, DummyOutput())  # type: ignore[arg-type]
        pipe.send_text(keys)
        assert prompt.ask("Once upon") == typed


@pytest.mark.parametrize("width", [20, 44, 80])
def test_bars_fit_the_terminal(width: int) -> None:
    parts = ["a-run", "temp 0.8", "1.50 bits/char typed", "12,345 chars/s", "/help"]
    assert len(fitting(parts, width)) <= width and fitting(parts, width).startswith("a-run · temp 0.8")
    guesses = tuple(Guess(f" word{number}", 0.5 / (number + 1)) for number in range(5))
    answer = Forecast(Question("", ""), guesses, tuple(guess.text for guess in guesses), None)
    for chosen in range(5):
        row = alternatives(answer, chosen, width)
        assert sum(len(text) for _, text in row) <= width
        assert [text.split()[0] for style, text in row if style] == [f"word{chosen}"]


def test_a_whole_session(letters: Any, letter_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = tmp_path / "story.txt"
    kept = tmp_path / "kept.txt"
    kept.write_text("mine", "utf-8")
    lines = ["/save early.txt", "/set temp 0", "/set length 5", "/set regex c+", "a", "/set regex none", "ab", "",
             "/undo", f"/save {story}", f"/save {story}", f"/save {kept}", "/retry", "/load lines", "/show",
             "/load nosuch", "/load ~nosuchuser", "/save ~nosuchuser/x",
             f"/save {tmp_path}", "/set allow \N{SNOWMAN}", "a", "/set allow none", "/clear",
             "a"]  # fmt: skip
    with create_pipe_input() as pipe:
        pipe.send_text("".join(f"{line}\r" for line in lines) + "\x03\x04")
        terminal = Terminal(letters, letter_runs, Session(), InMemoryHistory(), pipe, DummyOutput())
        terminal.run()
    first = letters.complete("ab", temperature=0, length=5)
    assert (story.read_text("utf-8"), kept.read_text("utf-8")) == (first, "mine")
    output, talk = capsys.readouterr()
    assert first in output and letters.complete(first, temperature=0, length=5)[len(first) :] in output
    assert "no text that begins with the prompt matches 'c+'" in talk and "back to: " in talk
    assert "nothing to save yet" in talk and "kept.txt: there is a text already" in talk
    assert talk.count("~nosuchuser") == 2 and talk.count("there is no such user") == 2
    assert "no run called nosuch" in talk and "cannot be written" in talk
    assert talk.count("--allow and --forbid leave no character") == 1  # it goes on
    assert re.search(r"length +5  \(set\)", talk)
    assert terminal.session.text.startswith("a") or terminal.session.turns[-1].ended
    assert terminal.model is not letters and terminal.speed > 0
    assert terminal.bar(1.5)[:3] == ["lines", "temp 0", "1.50 bits/char typed"] and "chars/s" in terminal.bar(None)[2]


def test_each_enter_reads_what_is_new_alone(letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["/set temp 0", "/set length 5", "/set ignore_eos on", "ab", "cde", "/retry", "/undo", "/clear", "f"]
    read, read_window = list[int](), decode._read_window

    def counted(prepared: Any, ids: Any, count: Any, *rest: Any) -> Any:
        read.append(int(count))
        return read_window(prepared, ids, count, *rest)

    monkeypatch.setattr(decode, "_read_window", counted)
    with create_pipe_input() as pipe:
        pipe.send_text("".join(f"{line}\r" for line in lines) + "\x04")
        terminal = Terminal(letters, tmp_path, Session(), InMemoryHistory(), pipe, DummyOutput())
        terminal.run()
    assert read == [2, 5 + 3, 1]
    assert terminal.session.text == letters.complete("f", temperature=0, length=5, ignore_eos=True)


def test_as_a_person_runs_it(open_terminal: Callable[..., Any]) -> None:
    terminal = open_terminal("complete", "letters", "--length", "1000000", "--ignore-eos")
    terminal.expect("/help lists keys")
    terminal.expect("temp 0.8")
    terminal.send("abc")
    terminal.expect("bits/char")  # only what changes is written, so no more than this is sure
    terminal.send("\t")
    terminal.expect(r"\d+%")
    terminal.send("\r")
    terminal.expect(r"[a-f \r\n]{200}")  # longer than any ghost text: it is being drawn
    terminal.send("\x03")  # stops the text, not the program
    terminal.expect("chars/s")
    terminal.send("/bye\r")
    code, shown = terminal.leave()
    assert code == 0 and "Traceback" not in shown
