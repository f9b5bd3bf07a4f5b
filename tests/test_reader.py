"""The reader: another text costs only what is new in it, and the answer is the same."""

import numpy as np
import pytest

from charrnn.generation import next as ahead
from charrnn.model import Model
from charrnn.reader import Reader, _is_in_words

TEXTS = ["", "ab", "abc", "abc de", "abc", "ab", "fade", "", "abc de\nf"]


def test_following_is_reading_afresh(letters: Model) -> None:
    reader = start = letters.reader()
    for text in TEXTS:
        reader, fresh = reader.follow(text), start.follow(text)
        assert reader.text == fresh.text == text
        assert reader.nats == pytest.approx(fresh.nats, abs=1e-4) == pytest.approx(letters.score(text).nats, abs=1e-4)
        np.testing.assert_allclose(
            [guess.probability for guess in reader.characters()], [guess.probability for guess in fresh.characters()],
            atol=1e-6,
        )  # fmt: skip


def test_only_what_is_new_is_read(letters: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read, sizes = ahead.read, []
    monkeypatch.setattr(
        ahead, "read", lambda p, place, ids, *rest: sizes.append(len(ids)) or read(p, place, ids, *rest)
    )
    reader = letters.reader()
    for text in ("abcdef", "abcdef a", "abcdef a", "abcdef", "abcdef b"):
        reader = reader.follow(text)
    assert sizes == [6, 2, 2]


def test_it_tells_how_far_it_has_read(letters: Model) -> None:
    told: list[tuple[int, int]] = []
    letters.reader().follow("ab" * 300, lambda done, total: told.append((done, total)))
    assert told == [(256, 600), (512, 600), (600, 600)]


def test_marks_stay_few_and_the_beginning_stays(letters: Model) -> None:
    reader = letters.reader()
    for size in range(250):
        reader = reader.follow("a" * size)
    assert len(reader.marks) <= 100
    assert reader.follow("b").nats == pytest.approx(letters.score("b").nats, abs=1e-4)


def test_the_distribution_is_whole_and_sorted(letters: Model) -> None:
    reader = letters.reader().follow("ab")
    every = reader.characters()
    shares = [guess.probability for guess in every]
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert [guess.ends for guess in every].count(True) == 1
    assert reader.characters(3) == every[:3]
    assert reader.characters(temperature=0)[0] == (every[0].text, 1.0, every[0].ends)
    flat = [guess.probability for guess in reader.characters(temperature=1e9)]
    assert max(flat) - min(flat) < 1e-6
    assert all(np.isfinite(guess.probability) for guess in reader.characters(temperature=1e-9))


def test_surprise_is_of_what_was_added(letters: Model) -> None:
    reader = letters.reader().follow("abc").follow("abc de")
    bits = (letters.score("abc de").bits - letters.score("abc").bits) / 3
    assert reader.surprise("abc") == pytest.approx(bits, rel=1e-4)
    assert reader.surprise("abc de") is None and reader.surprise("other") is None


@pytest.mark.parametrize(
    ("character", "inside"),
    [("a", True), ("É", True), ("7", True), ("'", True), ("ж", True), ("\N{COMBINING ACUTE ACCENT}", True),
     (" ", False), (".", False), ("\n", False), ("日", False), ("か", False), ("🦊", False), ("ﷺ", True)],
)  # fmt: skip
def test_what_words_are_made_of(character: str, inside: bool) -> None:
    assert _is_in_words(character) == inside


def test_of_is_at_the_beginning(letters: Model) -> None:
    reader = Reader.of(letters.sampler.prepared, letters.vocabulary, "float32")
    assert (reader.text, reader.nats) == ("", 0.0)
    assert reader.likeliest(0) == ("", 1.0, False)
