"""Every character can be seen, and none acts on the terminal."""

import sys

import pytest

from charrnn.cli.glyphs import column_after, columns, ending, fitted, fitting, glyph, named, percent, visible


@pytest.mark.parametrize(
    ("character", "sign"),
    [("a", "a"), ("日", "日"), (" ", "␣"), ("\n", "↵"), ("\t", "⇥"), ("\r", "␍"), ("\x07", "␇"), ("\x1b", "␛"), 
     ("\x7f", "␡"),
     ("\x9b", "<U+009B>"), ("\N{ZERO WIDTH SPACE}", "<U+200B>"), ("\N{COMBINING ACUTE ACCENT}", "◌\u0301"), ("", "¶"),
     ("\ud800", "<U+D800>"), ("\N{RIGHT-TO-LEFT OVERRIDE}", "<U+202E>")],
)  # fmt: skip
def test_signs(character: str, sign: str) -> None:
    assert glyph(character) == sign


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0),
        ("abc", 3),
        ("abcde", 5),
        ("abcdef", 1),
        ("ab日本", 2),
        ("abc日", 5),
        ("e\u0301" * 6, 1),
        ("a👨\u200d👩\u200d👧", 3),
        ("\u0301", 0),
    ],
)
def test_the_column_after_a_text_that_is_wrapped(text: str, column: int) -> None:
    assert column_after(text, 5) == column


def test_nothing_that_is_shown_is_a_control_character() -> None:
    for code in range(0, sys.maxunicode + 1, 7):
        assert all(sign.isprintable() or sign == "◌" for sign in glyph(chr(code)).replace("◌", "")[:1])


def test_spaces_stay_in_a_text() -> None:
    assert visible("a b\x1b[1m\nc") == "a b␛[1m↵c"
    assert visible("e\u0301 \n\u0301 नमस्ते") == "e\u0301 ↵◌\u0301 नमस्ते"
    assert visible("\u200da\u200cb👩\u200d👧\u202e") == "<U+200D>a\u200cb👩\u200d👧<U+202E>"
    assert (named(""), named(" "), named("a")) == ("end of text", "space", "")


@pytest.mark.parametrize(
    ("text", "width", "end"),
    [("abc", 3, "abc"), ("abcd", 3, "…cd"), ("日本語文字", 10, "日本語文字"), ("日本語文字", 9, "…本語文字"),
     ("日本語文字", 4, "…字"), ("ab", 1, "…"), ("e\u0301" * 9, 9, "e\u0301" * 9)],
)  # fmt: skip
def test_wide_signs_take_two_columns(text: str, width: int, end: str) -> None:
    assert ending(text, width) == end and columns(end) <= width
    assert columns(fitted(text, width)) == width
    assert columns(fitting([text, text, "x"], 7)) <= 7


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100%"), (0.434, "43%"), (0.0996, "10%"), (0.0421, "4.2%"), (0.001, "0.1%"), (1e-9, "<0.1%")],
)
def test_percentages(share: float, said: str) -> None:
    assert percent(share) == said
