"""Patterns against Python's own `re`, stops against `endswith`."""

import itertools
import re
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import ConfigError
from charrnn.text.automaton import Automaton, pattern, strings
from charrnn.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary("".join(sorted("abAB01 .-]\n\\éж^")))
EVERYTHING = np.ones(VOCABULARY.size, bool)
TEXTS = ["".join(letters) for n in range(4) for letters in itertools.product("abA0 .-]\n\\éж^", repeat=n)]

PATTERNS = [
    "", "()", "a|", "a*b", "a.b", "(?s).+", ".+", "[ab]+\\d{1,2}", "(ab|ж)*0?", "\\w+ \\w+", "\\W+", "[^\\W]+",
    "[^\\w]", "\\D*", "\\s|\\S\\S", "^ab$", "\\Aab\\Z", "^a|b$", "(?i)aé", "(?i:A)b", "[^ab]+", "a+?b", "(?:a|b){3}",
    "a{,2}", "a{2,}", "\\x41", "\\u0436", "[\\u0436é]+", "[\\]a]", "[]a]", "[^]a]", "[\\w-]+", "[-a]", "[^-a]", "[a^]",
    "a{}", "a{b", "}+", "a{,}", "{a}", "\\060", "\\141{2}", "[\\60\\141]", "\\0",
    "[\\d\\]]+", "[\\\\]", "(?P<name>a)b", "\\.", "a\\|b", "[|]a$|b", "\\n", ".{1,2}", "a+?\\+",
]  # fmt: skip
REFUSED = {
    "(a)\\1": "cannot be drawn along",
    "\\bab": "cannot be drawn along", "(?!a).": "cannot be drawn along", "(?=a).": "cannot be drawn along",
    "(?<=a)b": "cannot be drawn along", "a++b": "cannot be drawn along", "(?x) a": "cannot be drawn along",
    "a$b": "cannot be drawn along",
}  # fmt: skip


def accepts(automaton: Automaton, ids: np.ndarray) -> bool:
    state = automaton.start
    for id in ids:
        state = automaton.following[state, id]
    return bool(automaton.accepting[state])


@pytest.mark.parametrize("regex", PATTERNS, ids=repr)
def test_a_pattern_accepts_what_python_says(regex: str) -> None:
    automaton = pattern(regex, VOCABULARY, EVERYTHING)
    wrong = [text for text in TEXTS if bool(re.fullmatch(regex, text)) != accepts(automaton, VOCABULARY.encode(text))]
    assert wrong == []


@pytest.mark.parametrize("regex", REFUSED)
def test_what_no_automaton_can_do_gets_one_line(regex: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[regex]):
        pattern(regex, VOCABULARY, EVERYTHING)


def test_a_pattern_that_is_nested_too_deeply_gets_one_line() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        pattern("(" * 300 + "a" + ")" * 300, VOCABULARY, EVERYTHING)


def test_a_pattern_that_makes_too_large_an_automaton_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.text.automaton._PATIENCE", 0.2)
    with pytest.raises(ConfigError, match=r"too large an automaton \(it was not done in 0.2 s\)"):
        pattern("(a|b)*a(a|b){30}", VOCABULARY, EVERYTHING)
    deadline = time.monotonic() + 30
    while any(thread.name == "pattern" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the work goes on"
        time.sleep(0.01)


@pytest.mark.parametrize("prompt", ["", "a", "ab", "☃"])
def test_a_prompt_is_a_part_of_the_text(prompt: str) -> None:
    automaton = pattern("(a|b|☃)*0", VOCABULARY, EVERYTHING, prompt)
    assert [accepts(automaton, VOCABULARY.encode(text)) for text in ("0", "b0", "0b", "")] == [True, True, False, False]


def test_a_prompt_that_cannot_begin_a_match_is_refused() -> None:
    with pytest.raises(ConfigError, match="begins with the prompt"):
        pattern("a+", VOCABULARY, EVERYTHING, "b")


def test_ids_that_are_not_permitted_lead_nowhere() -> None:
    permitted = EVERYTHING.copy()
    permitted[VOCABULARY.encode("a")] = False
    automaton = pattern("a|b", VOCABULARY, permitted)
    assert [accepts(automaton, VOCABULARY.encode(text)) for text in "ab"] == [False, True]


def test_a_table_too_large_is_refused() -> None:
    wide = Vocabulary("".join(map(chr, range(0x4E00, 0x4E00 + 20_000))))
    with pytest.raises(ConfigError, match="too many for 20,002 characters"):
        pattern(".{4000}", wide, np.ones(wide.size, bool))


def test_distances_count_the_characters_to_an_end() -> None:
    automaton = pattern("aaa|b", VOCABULARY, EVERYTHING)
    distances = automaton.distances(99)
    assert distances[automaton.start] == 1 and distances[-1] == 99
    after = automaton.following[automaton.start, VOCABULARY.encode("a")[0]]
    assert distances[after] == 2


@given(st.lists(st.text("ab01", min_size=1, max_size=4), min_size=1, max_size=4), st.text("ab01", max_size=20))
def test_strings_are_found_wherever_they_end(wanted: list[str], text: str) -> None:
    automaton = strings([VOCABULARY.encode(one) for one in wanted], VOCABULARY.size)
    for size in range(1, len(text) + 1):
        ids = VOCABULARY.encode(text[:size])
        assert accepts(automaton, ids) == any(text[:size].endswith(one) for one in wanted)
