"""Characters and ids: encoding, decoding, what is left out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import CheckpointError
from charrnn.text.vocabulary import EOS, FIRST_CHARACTER, REPLACEMENT, UNK, Vocabulary, code_points

texts = st.text(st.characters(min_codepoint=1))  # surrogates included


def vocabulary_of(text: str, **options: int) -> Vocabulary:
    """The vocabulary of a text's own characters."""
    alphabet, counts = np.unique(code_points(text), return_counts=True)
    return Vocabulary.from_counts(alphabet, counts, **options)


@given(texts, texts)
def test_known_text_comes_back(text: str, more: str) -> None:
    vocabulary = vocabulary_of(text + more)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and (ids >= FIRST_CHARACTER).all() and (ids < vocabulary.size).all()
    assert vocabulary.decode(ids) == text and vocabulary.unknown(text) == []


@given(texts, texts)
def test_unknown_text_becomes_unk(known: str, text: str) -> None:
    vocabulary = vocabulary_of(known)
    expected = "".join(character if character in set(known) else REPLACEMENT for character in text)
    assert vocabulary.decode(vocabulary.encode(text)) == expected
    assert vocabulary.unknown(text) == [c for c in dict.fromkeys(text) if c not in set(known)]


@given(texts, st.integers(1, 4), st.none() | st.integers(1, 8))
def test_the_rare_are_left_out(text: str, min_count: int, max_vocab: int | None) -> None:
    vocabulary = vocabulary_of(text, min_count=min_count, max_vocab=max_vocab)
    counts = Counter(text)
    ranked = sorted((c for c in counts if counts[c] >= min_count), key=lambda c: (-counts[c], ord(c)))
    assert vocabulary.characters == "".join(sorted(ranked[:max_vocab]))


@given(texts, texts)
def test_more_characters_permute_nothing(known: str, text: str) -> None:
    before = vocabulary_of(known)
    alphabet, counts = np.unique(code_points(text), return_counts=True)
    after = before.with_more(alphabet, counts)
    assert after.characters.startswith(before.characters)
    assert (after.encode(known) == before.encode(known)).all()
    assert set(after.characters) == set(known + text) and after.decode(after.encode(text)) == text


@given(texts)
def test_json_round_trip(text: str) -> None:
    vocabulary = vocabulary_of(text)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    vocabulary.to_json().encode("utf-8")  # lone surrogates are escaped


@pytest.mark.parametrize(
    "text", ["", "1", "{}", "[]", '{"characters": 3}', '{"characters": ["a", "a"]}', '{"characters": ["ab", ""]}',
             '{"characters": ["ab"]}', '{"characters": [1]}', "[" * 100_000],
)  # fmt: skip
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="not a vocabulary"):
        Vocabulary.from_json(text)


def test_special_ids_have_no_characters_of_their_own() -> None:
    vocabulary = Vocabulary("ab")
    assert vocabulary.size == 4
    assert vocabulary.decode(np.array([2, UNK, EOS, 3])) == f"a{REPLACEMENT}b"
    assert vocabulary.encode("ba\U0010ffffz").tolist() == [3, 2, UNK, UNK]
    assert vocabulary.decode([]) == "" and vocabulary.encode("").shape == (0,)


def test_ids_keep_the_shape_and_empty_vocabularies_work() -> None:
    codes = code_points("abba").reshape(2, 2)
    assert Vocabulary("ab").ids_of_code_points(codes).tolist() == [[2, 3], [3, 2]]
    assert Vocabulary("").encode("\0a").tolist() == [UNK, UNK]
    assert Vocabulary("ab").ids_of_code_points(codes.astype(np.uint8)).tolist() == [[2, 3], [3, 2]]
