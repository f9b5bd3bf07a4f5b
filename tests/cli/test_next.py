"""`charrnn next`: the distribution as bars and as JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from charrnn.cli.next import bars
from charrnn.reader import Guess


def test_the_distribution_is_the_models(charrnn: Callable[..., Result], letters: Any) -> None:
    done = charrnn("next", "ab", "--run", "letters", "--top", "99", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["character"], row["end"]) for row in rows] == [
        (guess.text, guess.ends) for guess in letters.reader().follow("ab").characters()
    ]
    assert sum(row["probability"] for row in rows) == pytest.approx(1)


def test_bars_are_shown_and_control_characters_named(charrnn: Callable[..., Result]) -> None:
    lines = charrnn("next", "a", "--run", "letters", "--top", "99").stdout.splitlines()
    assert len(lines) == 10 and all(len(line) <= 80 for line in lines)
    assert any(line.startswith("↵ newline ") for line in lines) and any("␣ space " in line for line in lines)
    assert any("¶ end of text" in line for line in lines)
    assert len(charrnn("next").stdout.splitlines()) == 9  # how a text may begin; all that the model knows
    for piped in ("a", "a\n", "a\r\n"):
        assert charrnn("next", "-", stdin=piped).stdout == charrnn("next", "a").stdout
    assert charrnn("next", "-", stdin="a\n\n").stdout == charrnn("next", "a\n").stdout != charrnn("next", "a").stdout


def test_temperature_is_that_of_sample(charrnn: Callable[..., Result]) -> None:
    sure = charrnn("next", "a", "--temp", "0", "--top", "1").stdout
    assert "100.00 %" in sure
    assert charrnn("next", "a", "--temp", "nan").exit_code == 2
    assert charrnn("next", "a", "--temp", "-1").exit_code == 2
    assert "nan" not in charrnn("next", "a", "--temp", "1e-9").stdout


def test_an_unknown_character_is_named(charrnn: Callable[..., Result]) -> None:
    done = charrnn("next", "a☃")
    assert done.exit_code == 0 and "never saw '☃'" in done.stderr


def test_a_run_is_an_option_here(charrnn: Callable[..., Result]) -> None:
    assert "for the run of that name give --run letters" in charrnn("next", "letters").stderr
    assert "for the run" not in charrnn("next", "letters", "--run", "lines").stderr
    done = charrnn("next", "letters", "ab")
    assert done.exit_code == 2 and "a run is given as --run letters" in done.stderr


@pytest.mark.parametrize("width", [20, 44, 80])
def test_the_longest_bar_is_the_likeliest_and_fits(width: int) -> None:
    guesses = [Guess("a", 0.5), Guess("\n", 0.25), Guess("", 0.001, True)]
    lines = bars(guesses, width)
    lengths = [line.count("█") for line in lines]
    assert lengths[0] >= 2 * lengths[1] - 1 > lengths[2] == 0
    assert all(len(line) <= max(width, 34) for line in lines)
