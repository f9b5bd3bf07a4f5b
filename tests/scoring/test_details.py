"""Where the surprise is: the parts add up to the whole and stand where an editor finds them."""

from collections.abc import Callable

import numpy as np
import pytest

from charrnn.model import Model
from charrnn.scoring.details import characters_of, guesses_of, lines_of
from charrnn.scoring.protocols import surprise
from charrnn.scoring.text import ReadyText
from charrnn.text import whole as whole_module

TEXT = "abc def\n\nfad bee\ncab"


@pytest.mark.parametrize("block", [1 << 18, 3])
def test_lines_add_up(
    letters: Model, make_text: Callable[..., ReadyText], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_module, "_BLOCK", block)
    text = make_text(letters, TEXT)
    nats = surprise(letters.network, text, 1, "float32")
    lines = lines_of(text, nats)
    found = [text.whole.text_at(np.arange(start, stop)) for start, stop in zip(lines.starts, lines.stops, strict=True)]
    assert found == ["abc def\n", "\n", "fad bee\n", "cab"]
    assert lines.numbers.tolist() == [1, 2, 3, 4]
    assert lines.characters.tolist() == [8, 1, 8, 3]
    assert lines.nats.sum() == pytest.approx(letters.score(TEXT).nats, rel=1e-5)
    assert lines.nats[0] == pytest.approx(letters.score(TEXT[:8]).nats, rel=1e-5)


def test_a_lines_number_is_that_of_the_file(letter_lines: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letter_lines, "\n\nabba\n\ncafe\n")
    lines = lines_of(text, surprise(letter_lines.network, text, 1, "float32"))
    assert lines.numbers.tolist() == [3, 5]
    expected = [letter_lines.score(name, end=True).nats for name in ("abba", "cafe")]
    np.testing.assert_allclose(lines.nats, expected, rtol=1e-5)
    assert lines.characters.tolist() == [5, 5]


def test_characters_come_in_order_with_what_was_expected(
    letter_lines: Model, make_text: Callable[..., ReadyText]
) -> None:
    text = make_text(letter_lines, "ab☃\nc\n")
    nats = surprise(letter_lines.network, text, 1, "float32")
    characters = list(characters_of(text, nats))
    assert [character.text for character in characters] == ["a", "b", "☃", "", "c", ""]
    guessed = list(guesses_of(letter_lines.network, letter_lines.vocabulary, text, 3, "float32"))
    assert [character.text for character in guessed] == [character.text for character in characters]
    np.testing.assert_allclose([one.nats for one in guessed], nats, atol=1e-5)
    expected = letter_lines.reader().follow("ab").characters(3)
    assert [text for text, _ in guessed[2].guesses] == [guess.text for guess in expected]
    np.testing.assert_allclose([p for _, p in guessed[2].guesses], [g.probability for g in expected], rtol=1e-4)
