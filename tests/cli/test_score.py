"""`charrnn score`: the figures, the views, and what is refused."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from charrnn.cli.glyphs import glyph, named
from charrnn.cli.score.compare import odds
from charrnn.cli.score.figures import echo
from charrnn.cli.score.html import page
from charrnn.cli.score.views import clusters, level_of
from charrnn.scoring.details import Character
from charrnn.scoring.figures import perplexity_of

FACTS = {"bits_per_character": 1.0, "nats_per_character": 0.7, "perplexity": 2.0, "characters": 9, "unknown": 0}
TEXT = "abc def\nfad bee\n\ncab\n"


@pytest.fixture
def file(charrnn: Callable[..., Result]) -> Path:
    """A text in the folder the commands run in."""
    path = Path("text.txt")
    path.write_text(TEXT, "utf-8")
    return path


def test_the_figures_are_those_of_the_model(charrnn: Callable[..., Result], file: Path, letters: Any) -> None:
    score = letters.score(TEXT)
    facts = json.loads(charrnn("score", "letters", "text.txt", "--json").stdout)
    assert facts["bits_per_character"] == pytest.approx(score.bits_per_character, rel=1e-5)
    assert facts["perplexity"] == pytest.approx(score.perplexity, rel=1e-5)
    assert facts["bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-5)
    assert (facts["characters"], facts["ends"], facts["unknown"], facts["protocol"]) == (21, 0, 0, "stateful")
    shown = charrnn("score", "letters", "text.txt").stdout
    assert f"bits per character    {score.bits_per_character:.3f}" in shown
    assert "protocol              stateful: one pass, 1 stream" in shown


def test_what_is_no_number_is_null_to_programs(capsys: pytest.CaptureFixture[str], charrnn: Any, file: Path) -> None:
    assert perplexity_of(0.0) == 1 and perplexity_of(1e4) == math.inf  # of a network that came apart
    echo(FACTS | {"perplexity": math.inf, "dynamic": {"nats": math.nan, "rate": 0.1}, "ends": 0}, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts == FACTS | {"perplexity": None, "dynamic": {"nats": None, "rate": 0.1}, "ends": 0}
    file.write_text(TEXT * 20, "utf-8")
    one = charrnn("score", "letters", "text.txt", "--protocol", "windows", "--windows", "1", "--json")
    assert json.loads(one.stdout)["standard_error_bits"] is None  # of one window nothing is known of the spread


def test_documents_are_those_of_the_run(charrnn: Callable[..., Result], file: Path, letter_lines: Any) -> None:
    facts = json.loads(charrnn("score", "lines", "text.txt", "--json").stdout)
    nats = sum(letter_lines.score(line, end=True).nats for line in TEXT.split("\n") if line)
    assert facts["nats"] == pytest.approx(nats, rel=1e-5)
    assert (facts["characters"], facts["ends"]) == (17, 3)


def test_one_argument_is_a_run_or_else_a_file(charrnn: Callable[..., Result], file: Path) -> None:
    names = {
        ("letters",): ("standard input", 0), ("text.txt",): ("text.txt", 3), ("-",): ("standard input", 3),
        (): ("standard input", 3), ("letters", "-"): ("standard input", 0),
    }  # fmt: skip
    for arguments, (name, ends) in names.items():
        done = charrnn("score", *arguments, "--json", stdin=TEXT)
        assert done.exit_code == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["file"], facts["ends"]) == (name, ends), arguments
    done = charrnn("score", "nosuch")
    assert done.exit_code == 2 and "nosuch: neither a file nor a run" in done.stderr


def test_protocols_are_told_apart(charrnn: Callable[..., Result]) -> None:
    Path("long.txt").write_text(TEXT * 20, "utf-8")
    windows = charrnn("score", "letters", "long.txt", "--protocol", "windows", "--windows", "20", "--seed", "4")
    assert re.search(r"bits per character    \d\.\d{3} ± 0\.\d{3}", windows.stdout)
    assert "the mean over 20 cold starts of 256 characters, seed 4" in windows.stdout
    dynamic = json.loads(
        charrnn("score", "letters", "long.txt", "--dynamic", "--dynamic-rate", "0.003", "--json").stdout
    )
    assert dynamic["dynamic"]["bits_per_character"] < dynamic["bits_per_character"]
    assert dynamic["dynamic"]["rate"] == 0.003
    assert "dynamic evaluation" in charrnn("score", "letters", "long.txt", "--dynamic").stdout
    assert "goes on learning" in charrnn("score", "letters", "long.txt", "--dynamic", "--by", "line").stderr


def test_the_defaults_that_the_help_tells_are_the_real_ones(charrnn: Callable[..., Result]) -> None:
    from charrnn.generation.dynamic import DEFAULT_RATES

    told = re.findall(r"--dynamic-\w+ X.*?\[default: ([\d.]+)\]", charrnn("score", "--help").stdout, re.DOTALL)
    assert tuple(map(float, told)) == DEFAULT_RATES


def test_lines_come_oddest_first(charrnn: Callable[..., Result], file: Path, letters: Any) -> None:
    rows = [
        json.loads(row) for row in charrnn("score", "letters", "text.txt", "--by", "line", "--json").stdout.splitlines()
    ]
    bits = [row["bits_per_character"] for row in rows]
    assert bits == sorted(bits, reverse=True)
    assert {row["line"]: row["text"] for row in rows} == {1: "abc def", 2: "fad bee", 3: "", 4: "cab"}
    assert sum(row["bits"] for row in rows) == pytest.approx(letters.score(TEXT).bits, rel=1e-5)
    done = charrnn("score", "letters", "text.txt", "--by", "line", "--top", "1")
    assert done.stdout.split()[2:] == [str(rows[0]["line"]), *rows[0]["text"].split()]
    assert "bits per character over 21 characters" in done.stderr


def test_characters_come_in_order(charrnn: Callable[..., Result], file: Path) -> None:
    rows = [
        json.loads(row)
        for row in charrnn("score", "letters", "text.txt", "--by", "character", "--json").stdout.splitlines()
    ]
    assert "".join(row["character"] for row in rows) == TEXT
    shown = charrnn("score", "lines", "-", "--by", "character", stdin="a b\n").stdout.splitlines()
    assert [row.split()[-1] for row in shown] == ["a", "␣", "b", "¶"]
    assert float(shown[0].split()[1]) == pytest.approx(100 * 2 ** -float(shown[0].split()[0]), rel=0.01)


def test_show_has_digits_where_there_are_no_colours(charrnn: Callable[..., Result], file: Path, letters: Any) -> None:
    for environment in ({}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        done = charrnn("score", "letters", "text.txt", "--show", **environment)
        assert "\x1b[4" not in done.stdout
        rows = done.stdout.splitlines()
        assert rows[0] == "abc def↵" and re.fullmatch(r"\d{8}", rows[1])
        first = -math.log2(next(g.probability for g in letters.reader().characters() if g.text == "a"))
        assert rows[1][0] == str(min(int(first), 9))
        assert "its surprise in bits" in rows[-1]
    narrow = charrnn("score", "letters", "-", "--show", stdin="abc def abc def", COLUMNS="10").stdout.splitlines()
    assert narrow[0] == "abc def ab" and narrow[2] == "c def"


def test_show_colours_a_terminal(charrnn: Callable[..., Result], file: Path) -> None:
    done = charrnn("score", "letters", "-", "--show", stdin="abc\x07☃\n", FORCE_COLOR="1")
    assert "\x1b[" in done.stdout and "␇" in done.stdout and "\x07" not in done.stdout
    assert " <1 " in done.stdout and " 7+ " in done.stdout
    assert [level_of(bits) for bits in (0.0, 0.99, 1.0, 3.9, 6.9, 7.0, math.inf)] == [0, 0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("stdin", ["abc def\n\nfed cba\nabcabc\n", "abc def\nabcabc", "abcdef\n"])
def test_a_long_line_is_coloured_in_pieces(
    charrnn: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, stdin: str
) -> None:
    shown = []
    for size in (4096, 3, 1):
        monkeypatch.setattr("charrnn.cli.score.views._PIECE", size)
        done = charrnn("score", "letters", "-", "--show", stdin=stdin, FORCE_COLOR="1").stdout
        shown.append(re.sub(r"\x1b\[[0-9;]*m", "", done))
    assert shown[0].splitlines()[:-1] == stdin.replace("\n", "↵\n").splitlines()
    assert shown == [shown[0]] * 3


class Page(HTMLParser):
    """The text of a page and its marked characters; every tag must be closed."""

    def __init__(self, content: str):
        super().__init__()
        self.open: list[str] = []
        self.marks: list[dict[str, str]] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)
        if tag == "i" and "pre" in self.open:
            self.marks.append({name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.text += data


def test_the_page_holds_the_text_and_what_was_expected(charrnn: Callable[..., Result], letters: Any) -> None:
    content = "ab <i>&\"'\n\x00☃"[:-2] + "☃"
    Path("<b>.txt").write_text(content, "utf-8")
    done = charrnn("score", "letters", "<b>.txt", "--html", "page.html")
    assert done.exit_code == 0, done.stderr
    raw = Path("page.html").read_text("utf-8")
    piped = charrnn("score", "letters", "<b>.txt", "--html", "-")
    assert piped.stdout == raw and "bits per character" in piped.stderr and not Path("-").exists()
    marked = Page(raw)
    assert marked.text == content.replace("\n", "↵\n")
    assert len(marked.marks) == len(content)
    assert marked.links == [] and "http" not in raw and "<b>" not in raw
    best = letters.reader().follow("a").characters(5)
    lines = marked.marks[1]["data-g"].split("\n")
    assert re.fullmatch(r" +\d\.\d\d bits +\d+\.\d\d % +b", lines[0]) and len(lines) == 6
    expected = [float(re.search(r"[\d.]+(?= %)", line)[0]) for line in lines[1:]]  # type: ignore[index]
    assert expected == pytest.approx([100 * guess.probability for guess in best], abs=0.01)
    assert all(
        line.endswith(f"{glyph(guess.text)} {named(guess.text)}".rstrip())
        for line, guess in zip(lines[1:], best, strict=True)
    )
    assert "color-scheme: light dark" in raw
    assert [number for number, mark in enumerate(marked.marks) if "tabindex" in mark] == [0]


def test_what_is_drawn_as_one_is_one_mark_on_the_page() -> None:
    text = "e\u0301 न\u092e\u0938\u094d\u0924\u0947 👩\u200d👧\n\u0301👍🏽\u202e"
    found = list(clusters(Character(character, 1.0, (("x", 0.5),)) for character in text))
    assert ["".join(one.text for one in cluster) for cluster in found] == [
        "e\u0301", " ", "न", "म", "\u0938\u094d", "\u0924\u0947", " ", "👩\u200d👧", "\n", "\u0301", "👍🏽", "\u202e",
    ]  # fmt: skip
    raw = "".join(page("a", "lstm", FACTS, (one for cluster in found for one in cluster)))
    assert ">e\u0301</i>" in raw and "👩\u200d👧" in raw and "&lt;U+202E&gt;" in raw and "\u202e" not in raw
    (family,) = (mark["data-g"].split("\n") for mark in Page(raw).marks if "👧" in mark["data-g"])
    assert len(family) == 3 + 1 and [line.split()[-1] for line in family] == ["👩", "<U+200D>", "👧", "x"]


def test_compare_gives_the_odds(charrnn: Callable[..., Result], letter_lines: Any) -> None:
    difference = letter_lines.score("bad", end=True).bits - letter_lines.score("abc", end=True).bits
    facts = json.loads(charrnn("score", "--compare", "abc", "bad", "--json").stdout)
    assert facts["odds_bits"] == pytest.approx(abs(difference), rel=1e-5)
    assert facts["likelier"] == int(difference < 0)
    assert [text["text"] for text in facts["texts"]] == ["abc", "bad"]
    shown = charrnn("score", "lines", "--compare", "abc", "bad").stdout.splitlines()
    assert shown[2] == f"the {'second' if difference < 0 else 'first'} is likelier, {odds(abs(difference))} to 1"
    assert charrnn("score", "--compare", "abc", "abc").stdout.endswith("both are equally likely\n")


@pytest.mark.parametrize(("bits", "said"), [(0.0, "1"), (1.0, "2"), (10.0, "1,024"), (0.5, "1.41"), (1000.0, "10^301")])
def test_odds_as_people_read_them(bits: float, said: str) -> None:
    assert odds(bits) == said


def test_unknown_characters_are_named_and_counted(charrnn: Callable[..., Result]) -> None:
    done = charrnn("score", "letters", stdin="ab☃☃é")
    assert "never saw '☃' (2), 'é' (1); scored as the unknown character" in done.stderr
    assert re.search(r"^unknown +3$", done.stdout, re.MULTILINE)


BAD = {
    "empty.txt": b"", "bad.txt": b"abc\nab\xffc", "nul.txt": b"ab\0cd", "blank.txt": b"\n\n", "good.txt": b"abc abc",
    "utf16.txt": "abc".encode("utf-16"),
}  # fmt: skip
REFUSED = [
    (("letters", "nosuch.txt"), "nosuch.txt: no such file"),
    (("letters", "empty.txt"), "empty.txt: empty"),
    (("lines", "blank.txt"), "blank.txt: empty"),
    (("letters", "bad.txt"), "bad.txt: not valid utf-8 at byte 6 (0xff)"),
    (("letters", "nul.txt"), "nul.txt: a NUL character near byte 2"),
    (("letters", "utf16.txt"), "give --encoding utf-16"),
    (("letters", "good.txt", "--protocol", "windows"), "needs at least 257 characters; good.txt has 7"),
    (("letters", "good.txt", "--protocol", "windows", "--dynamic"), "--protocol windows gives one figure"),
    (("letters", "good.txt", "--protocol", "windows", "--by", "line"), "--by needs --protocol stateful"),
    (("letters", "good.txt", "--top", "3"), "--top is for --by line"),
    (("letters", "good.txt", "--show", "--json"), "--show writes the text itself"),
    (("letters", "good.txt", "--dynamic-rate", "1"), "are for --dynamic"),
    (("letters", "good.txt", "--html", "no/page.html"), "--html no/page.html: cannot be written"),
    (("letters", "good.txt", "--encoding", "klingon"), "no such text encoding"),
    (("letters", "good.txt", "--compare", "a", "b"), "--compare takes its two texts"),
    (("letters", "--compare", "a", "b", "--streams", "4"), "--compare takes its two texts"),
    (("letters", "--compare", "a", "b", "--precision", "float32"), "leave --precision out"),
    (("letters", "good.txt", "--html", "page.html", "--streams", "2"), "leave --streams out"),
    (("letters", "good.txt", "--html", "-", "--json"), "leave --json out"),
    (("letters", "good.txt", "--dynamic", "--dynamic-decay", "nan"), "--dynamic-decay must be a finite number"),
    (("letters", "good.txt", "--part", "test"), "--part scores the run's own corpus"),
    (("letters", "--part", "test"), "kept no text back for a test"),
    (("letters", "--compare", "a", ""), "one of them is empty"),
    (("letters", "good.txt", "--streams", "0"), "--streams"),
    (("letters", "good.txt", "--seed", "0"), "--seed is for --protocol windows"),
    (("letters", "good.txt", "--windows", "9"), "--windows is for --protocol windows"),
    (("letters", "good.txt", "--protocol", "windows", "--streams", "2"), "--streams is for --protocol stateful"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_wrong_use_gets_one_line(charrnn: Callable[..., Result], arguments: tuple[str, ...], message: str) -> None:
    for name, content in BAD.items():
        Path(name).write_bytes(content)
    done = charrnn("score", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_broken_pipe_is_named_as_such(charrnn: Callable[..., Result]) -> None:
    done = charrnn("score", "letters", stdin=b"ab\xff")
    assert "standard input: not valid utf-8 at byte 2" in done.stderr
    assert charrnn("score", "letters", "--errors", "ignore", stdin=b"ab\xff").exit_code == 0
    assert "standard input: empty" in charrnn("score", "letters").stderr


def test_a_text_that_is_typed_ends_with_one_ctrl_d(open_terminal: Callable[..., Any]) -> None:
    terminal = open_terminal("score", "letters")
    terminal.expect("Ctrl-D ends it")
    terminal.send("abc\n\x04")
    code, shown = terminal.leave()
    assert code == 0 and "bits per character" in shown and "reading" not in shown
