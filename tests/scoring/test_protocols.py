"""Every way of reading a text against the plainest one: one stream, one character after another."""

from collections.abc import Callable

import numpy as np
import pytest

from charrnn.errors import ConfigError
from charrnn.generation.dynamic import Rates
from charrnn.model import Model
from charrnn.scoring import protocols
from charrnn.scoring.figures import Score
from charrnn.scoring.protocols import (
    COLD_WINDOW,
    batches_of,
    score_dynamic,
    score_stateful,
    score_windows,
    surprise,
)
from charrnn.scoring.text import ReadyText

LETTERS = "".join(np.random.default_rng(0).choice(list("abcdef \n"), 1500))


def test_one_stream_is_the_readers_own_sum(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letters, LETTERS)
    score = score_stateful(letters.network, text, 1, "float32")
    assert score.nats == pytest.approx(letters.reader().follow(LETTERS).nats, rel=1e-5)
    assert score.nats == pytest.approx(letters.score(LETTERS).nats, rel=1e-6)
    assert (score.characters, score.ends, score.unknown, score.bytes) == (1500, 0, 0, 1500)
    assert score.bits_per_byte == pytest.approx(score.bits_per_character)


def test_documents_are_scored_each_from_its_start_with_its_end(
    letter_lines: Model, make_text: Callable[..., ReadyText]
) -> None:
    names = ["abba", "fed", "cafe", "a"]
    text = make_text(letter_lines, "\n".join(names) + "\n")
    score = score_stateful(letter_lines.network, text, 1, "float32")
    assert score.nats == pytest.approx(sum(letter_lines.score(name, end=True).nats for name in names), rel=1e-5)
    assert (score.characters, score.ends, score.bytes) == (12, 4, 16)
    assert score.nats_per_character == pytest.approx(score.nats / 16)


@pytest.mark.parametrize("streams", [2, 4, 16])
def test_streams_tell_the_surprise_of_each_character(
    letters: Model, make_text: Callable[..., ReadyText], streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "_OVERLAP", 192)  # long enough for this network to forget
    text = make_text(letters, LETTERS)
    alone = np.array(surprise(letters.network, text, 1, "float32"))
    np.testing.assert_allclose(surprise(letters.network, text, streams, "float32"), alone, atol=2e-3)
    score = score_stateful(letters.network, text, streams, "float32")
    assert score.nats == pytest.approx(alone.sum(), rel=1e-4)


@pytest.mark.parametrize(("size", "streams"), [(1, 1), (32_767, 1), (32_768, 2), (100_000, 4), (10_000_000, 128)])
def test_streams_by_size(letters: Model, size: int, streams: int) -> None:
    text = ReadyText("x", None, range(size), {}, size, None)  # type: ignore[arg-type]
    assert text.streams == streams


def cold_nats(model: Model, content: str) -> float:
    """What a window is, read by itself: its first character is only read."""
    return (model.score(content).nats - model.score(content[0]).nats) / COLD_WINDOW


@pytest.mark.parametrize("windows", [3, 130])  # one batch, and more: the state is not carried from one to the next
def test_windows_start_cold_and_read_one_character_first(
    letters: Model, make_text: Callable[..., ReadyText], windows: int
) -> None:
    content = LETTERS[: COLD_WINDOW + 1]
    score = score_windows(letters.network, make_text(letters, content), windows, 0, "float32")  # there is one place
    assert score.nats_per_character == pytest.approx(cold_nats(letters, content), rel=1e-5)
    assert (score.error, score.windows) == (pytest.approx(0, abs=1e-7), windows)


def test_the_mean_of_windows_and_its_standard_error(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    score = score_windows(letters.network, make_text(letters, LETTERS), 9, 1, "float32")
    starts = np.random.default_rng([1, 3]).integers(0, len(LETTERS) - COLD_WINDOW, 9)
    each = [cold_nats(letters, LETTERS[start : start + COLD_WINDOW + 1]) for start in starts]
    assert score.nats_per_character == pytest.approx(np.mean(each), rel=1e-5)
    assert score.error == pytest.approx(np.std(each, ddof=1) / 3, rel=1e-3)


def test_streams_begin_early(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letters, LETTERS)
    assert [batches_of(text, streams).overlap for streams in (1, 2, 16)] == [0, 512, 512]


def test_figures_of_a_score() -> None:
    score = Score(12 * np.log(2), characters=3, unknown=0, ends=1, bytes=8)
    assert (score.bits, score.bits_per_character, score.bits_per_byte) == pytest.approx((12, 3, 1.5))
    assert score.perplexity == pytest.approx(8) and score.nats_per_character == pytest.approx(3 * np.log(2))


def test_windows_depend_on_the_seed_alone(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letters, LETTERS)
    first, again, other = (score_windows(letters.network, text, 5, seed, "float32") for seed in (1, 1, 2))
    assert first == again and first != other
    with pytest.raises(ConfigError, match=r"needs at least 257 characters; .*short\.txt has 256"):
        score_windows(letters.network, make_text(letters, LETTERS[:COLD_WINDOW], "short.txt"), 5, 0, "float32")


def test_dynamic_learns_a_text_that_repeats(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letters, "abcdef\n" * 150)
    static = score_stateful(letters.network, text, 1, "float32")
    assert score_dynamic(letters.network, text, Rates(0.0, 0.0)).nats == pytest.approx(static.nats, rel=1e-5)
    assert score_dynamic(letters.network, text, Rates(0.02, 0.0)).nats < 0.8 * static.nats


def test_unknown_characters_are_counted(letters: Model, make_text: Callable[..., ReadyText]) -> None:
    text = make_text(letters, "abc☃☃é")
    assert text.unknown == {"☃": 2, "é": 1}
    assert score_stateful(letters.network, text, 1, "float32").unknown == 3 == letters.score("abc☃☃é").unknown
