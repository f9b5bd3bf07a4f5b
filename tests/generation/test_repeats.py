"""No run of characters twice, against what plain Python says of whole texts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from walking import PROMPTS, TEXTS, V, histories, walk

from charrnn.generation import repeats
from charrnn.generation.repeats import NoRepeat


def check_no_repeat(size: int, prompt: list[int], texts: np.ndarray) -> None:
    logits, filtered, _ = walk(NoRepeat(size, len(texts), V), prompt, texts)
    seen_any = False
    for t, row, history in histories(prompt, texts):
        runs = {tuple(history[k : k + size]) for k in range(len(history) - size + 1)}
        tail = history[len(history) - size + 1 :] if len(history) >= size - 1 else None
        repeated = [tail is not None and (*tail, id) in runs for id in range(V)]
        seen_any |= any(repeated)
        expected = np.where(repeated, -np.inf, logits[t, row])
        np.testing.assert_array_equal(filtered[t, row], expected)
    assert seen_any


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_repeat(prompt: list[int], size: int) -> None:
    check_no_repeat(size, prompt, TEXTS)


def test_contexts_with_the_same_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    one_chain: Any = lambda hashes, chains: (hashes * np.uint32(0)).astype(np.int32)  # noqa: E731
    monkeypatch.setattr(repeats, "_chain", one_chain)
    check_no_repeat(3, PROMPTS[-1], TEXTS)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_prompt_is_remembered_as_if_it_had_been_drawn(size: int) -> None:
    prompt = np.random.default_rng(3).integers(2, V, 60)
    one = NoRepeat(size, 4, V)
    at_once = one.initial(prompt)
    by_step = jax.tree.map(jnp.asarray, NoRepeat(size, 64, V).initial(prompt[:0]))
    for id in prompt:
        by_step = jax.jit(one.update)(by_step, jnp.full(1, id, jnp.int32))
    for name, part in at_once._asdict().items():
        np.testing.assert_array_equal(getattr(by_step, name), part, err_msg=name)


def test_no_repeat_lets_go_where_nothing_is_left() -> None:
    one = NoRepeat(1, 4, V)
    memory = jax.tree.map(jnp.asarray, one.initial(np.arange(V)))
    logits = np.zeros((1, V), np.float32)
    np.testing.assert_array_equal(one(logits, memory), logits)


def test_a_row_without_a_text_goes_on_beyond_its_room() -> None:
    one = NoRepeat(3, 1, V)
    memory = jax.tree.map(jnp.asarray, one.initial(np.array([2, 3])))
    for id in [2, 3] * 20:
        memory = jax.jit(one.update)(memory, jnp.full(1, id, jnp.int32))
    assert int(memory.length[0]) == 42 and memory.ids.shape == (1, 4)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 9))
def test_the_first_of_each_run(ids: list[int], size: int) -> None:
    seen: dict[tuple[int, ...], int] = {}
    for end in range(size, len(ids) + 1):
        seen.setdefault(tuple(ids[end - size : end]), end - 1)
    np.testing.assert_array_equal(repeats._first_runs(np.array(ids, np.int64), size), sorted(seen.values()))


@given(st.lists(st.integers(0, 2**20), max_size=40), st.integers(0, 9))
def test_the_hash_of_each_context(ids: list[int], size: int) -> None:
    expected = []
    for place in range(len(ids) + 1):
        hash = 0
        for id in ids[max(place - size, 0) : place]:
            hash = (hash * repeats._BASE + id) % 2**32
        expected.append(hash)
    np.testing.assert_array_equal(repeats._hashes(np.array(ids, np.int64), size), np.array(expected, np.uint32))
