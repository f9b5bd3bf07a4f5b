"""Filters that remember the text, against what plain Python says of whole texts."""

import itertools
import re

import jax
import numpy as np
import pytest
from walking import PROMPTS, TEXTS, V, histories, rows, walk

from charrnn.generation.constraints import Along, MinLength, RepeatPenalty, Stop
from charrnn.text import automaton
from charrnn.text.vocabulary import EOS, Vocabulary


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
@pytest.mark.parametrize(("penalty", "window"), [(1.3, 4), (0.5, 1), (2.0, 10**9)])
def test_repeat_penalty(prompt: list[int], penalty: float, window: int) -> None:
    logits, filtered, _ = walk(RepeatPenalty(penalty, window, V), prompt, TEXTS)
    for t, row, history in histories(prompt, TEXTS):
        expected = logits[t, row].copy()
        for id in set(history[-window:]):
            expected[id] = expected[id] / penalty if expected[id] > 0 else expected[id] * penalty
        np.testing.assert_allclose(filtered[t, row], expected, rtol=1e-6)


def test_min_length_keeps_the_end_back() -> None:
    logits, filtered, _ = walk(MinLength(3), [2, 3], TEXTS)
    assert (filtered[:3, :, EOS] == -np.inf).all()
    np.testing.assert_array_equal(filtered[3:], logits[3:])
    np.testing.assert_array_equal(filtered[..., 1:], logits[..., 1:])


@pytest.mark.parametrize("stops", [["ab"], ["abc", "b"], ["aa", "aaa"], ["abab", "bac", "c"]])
def test_stop_ends_where_one_is_complete(stops: list[str]) -> None:
    vocabulary = Vocabulary("abcd")
    table = automaton.strings([vocabulary.encode(stop) for stop in stops], vocabulary.size)
    logits, filtered, ends = walk(Stop(table.following, table.accepting), [2], TEXTS)
    np.testing.assert_array_equal(filtered, logits)
    for t, row in np.ndindex(TEXTS.shape):
        text = vocabulary.decode(TEXTS[: t + 1, row])
        assert bool(ends[t][row]) == any(text.endswith(stop) for stop in stops)


@pytest.mark.parametrize("least", [0, 2, 4])
@pytest.mark.parametrize("pattern", ["a*b", "(ab|c)*", "a{2}|b{3}|c{7}", "[^a]+"])
def test_along_leaves_what_can_still_match(pattern: str, least: int) -> None:
    """Every text of up to five characters: an id is allowed where some whole text goes on so."""
    vocabulary, length = Vocabulary("abcd"), 5
    table = automaton.pattern(pattern, vocabulary, np.array([True, False, True, True, True, True]))
    one = Along.of(table, least, length)
    texts = ["".join(letters) for n in range(length + 1) for letters in itertools.product("abcd", repeat=n)]
    whole = {text for text in texts if re.fullmatch(pattern, text) and len(text) >= least}
    assert one.possible == bool(whole)
    beginnings = {text[:k] for text in whole for k in range(len(text) + 1)}
    call, update = jax.jit(lambda logits, memory: one(logits, memory)), jax.jit(one.update)
    for size in range(length):
        before = sorted(text for text in beginnings if len(text) == size)
        if not before:
            break
        memory = rows(one.initial(np.array([])), len(before))
        for ids in np.stack([vocabulary.encode(text) for text in before], 1):
            memory = update(memory, ids)
        allowed = np.isfinite(call(np.zeros((len(before), V), np.float32), memory))
        expected = [[text in whole, False, *(text + letter in beginnings for letter in "abcd")] for text in before]
        np.testing.assert_array_equal(allowed, expected)
