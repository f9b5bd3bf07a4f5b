"""Beam search against all texts there are."""

import itertools

import numpy as np
import pytest

from charrnn.generation.beam import Found, search
from charrnn.generation.constraints import MinLength, Stop
from charrnn.generation.filters import Forbid
from charrnn.text.automaton import strings
from charrnn.text.vocabulary import EOS

V, LENGTH = 4, 4
PROMPT = np.array([3])


def random_logits(size: int, seed: int) -> np.ndarray:
    """Logits `[V + 1, V]` of a chain."""
    return np.random.default_rng(seed).normal(0, 1.5, (size + 1, size))


def ends_with(ids: tuple[int, ...], stop: tuple[int, ...]) -> bool:
    return bool(stop) and ids[-len(stop) :] == stop


def every_text(logits: np.ndarray, prompt: np.ndarray, stop: tuple[int, ...] = ()) -> list[tuple[float, list[int]]]:
    """All texts with their mean log-probability, the best first."""
    logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    found = []
    for ids in itertools.chain(*(itertools.product(range(V), repeat=n) for n in range(1, LENGTH + 1))):
        ends = [place for place, id in enumerate(ids) if id == EOS or ends_with(ids[: place + 1], stop)]
        if ends[:1] != [len(ids) - 1] and (ends or len(ids) < LENGTH):
            continue
        before = [int(prompt[-1]) if len(prompt) else V, *ids[:-1]]
        found.append((sum(logs[a, b] for a, b in zip(before, ids, strict=True)) / len(ids), list(ids)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("stop", [(), (2, 3), (1,)], ids=str)
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:0]], ids=["prompt", "no prompt"])
@pytest.mark.parametrize("seed", range(3))
def test_a_width_of_all_texts_is_exhaustive(chain, seed: int, prompt: np.ndarray, stop: tuple[int, ...]) -> None:
    logits = random_logits(V, seed)
    expected = every_text(logits, prompt, stop)
    automaton = strings([np.array(stop)], V)
    filters = (Stop(automaton.following, automaton.accepting),) if stop else ()
    found = search(chain(logits), prompt, filters, width=V**LENGTH, length=LENGTH)
    for one in found:
        last = "eos" if one.ids[-1] == EOS else "stop" if ends_with(tuple(one.ids.tolist()), stop) else "length"
        assert one.ended == last
    assert {tuple(one.ids.tolist()) for one in found} == {tuple(ids) for _, ids in expected}
    np.testing.assert_allclose([one.score for one in found], [score for score, _ in expected], atol=1e-5)
    scores = {tuple(ids): score for score, ids in expected}
    np.testing.assert_allclose(
        [one.score for one in found], [scores[tuple(one.ids.tolist())] for one in found], atol=1e-5
    )


def test_a_narrow_beam_is_the_greedy_text_or_better(chain) -> None:
    logits = random_logits(V, 5)
    scores = [search(chain(logits), PROMPT, (), width=width, length=LENGTH)[0].score for width in (1, 3, V**LENGTH)]
    assert scores == sorted(scores)


def test_filters_say_what_may_follow(chain) -> None:
    found = search(chain(random_logits(V, 1)), PROMPT, (Forbid((2,)), MinLength(2)), width=50, length=LENGTH)
    assert found and all(2 not in one.ids and (one.ids[:2] != EOS).all() for one in found)


def test_a_length_beyond_one_call(chain) -> None:
    logits = random_logits(V, 2)
    logits[:, EOS] = -50
    (best,) = search(chain(logits), PROMPT, (), width=1, length=70)
    assert len(best.ids) == 70
    previous = 3
    for id in best.ids:
        assert id == logits[previous].argmax()
        previous = id


def test_score_of_nothing() -> None:
    assert Found(np.zeros(0, np.int32), np.zeros(0, np.float32)).score == 0.0
