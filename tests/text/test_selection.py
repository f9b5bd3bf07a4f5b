"""The split: every document once, the same for a seed, in constant memory."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import CorpusError
from charrnn.text import selection
from charrnn.text.corpus import Corpus
from charrnn.text.selection import Selection, split, vocabulary_of
from charrnn.text.vocabulary import Vocabulary

MakeCorpus = Callable[..., Corpus]
lines = st.lists(st.text("abcdef水", min_size=1, max_size=6), min_size=2, max_size=60)
fractions = st.floats(0.01, 0.99)
shards = st.sampled_from([1, 3, 7, 1 << 16])


def spans_of(part: Selection) -> np.ndarray:
    """All spans of a part, in the order of the text."""
    return np.concatenate([part.shard(index) for index in range(part.shard_count)])


def text_of_span(corpus: Corpus, span: np.ndarray) -> str:
    """The characters of one span."""
    return "".join(map(chr, corpus.alphabet[corpus.symbols[span[0] : span[1]]]))


def text_of(part: Selection) -> str:
    """All characters of a part."""
    codes = part.corpus.alphabet[part.corpus.symbols]
    return "".join("".join(map(chr, codes[a:b])) for a, b in spans_of(part))


def parts(corpus: Corpus, fraction: float, seed: int = 0, test: float = 0.0) -> list[Selection]:
    """All parts, empty ones too."""
    return [Selection(corpus, part, fraction, seed, test) for part in ("train", "validation", "test")]


@given(lines, fractions, st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.9]), st.integers(0, 2**32 - 1), shards)
def test_the_parts_hold_every_document_exactly_once(
    make_corpus: MakeCorpus, documents: list[str], fraction: float, of_the_rest: float, seed: int, shard: int
) -> None:
    kept_back = (1 - fraction) * of_the_rest
    corpus = make_corpus("\n".join(documents), documents="line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SHARD", shard)
        train, validation, test = parts(corpus, fraction, seed, kept_back)
        spans = np.concatenate([spans_of(part) for part in (train, validation, test)])
        ends = train.whole_documents * len(documents)
        assert train.positions + validation.positions + test.positions == sum(map(len, documents)) + ends
        for part in (train, validation, test):
            assert list(part.documents()) == [text_of_span(corpus, span) for span in spans_of(part)]
            assert (np.diff(spans_of(part).ravel()) > 0).sum() == max(len(spans_of(part)) * 2 - 1, 0)
            assert part.shard_count == -(-len(documents) // shard) == len(part.positions_of_shards)
    if train.whole_documents:
        np.testing.assert_array_equal(spans[np.argsort(spans[:, 0])], corpus.spans)
        together = max(int(len(documents) * (fraction + kept_back)), 1 + bool(kept_back))
        assert len(spans_of(validation)) + len(spans_of(test)) == together
        assert len(spans_of(validation)) and bool(len(spans_of(test))) == bool(kept_back)
    else:
        covered = np.concatenate([np.arange(a, b) for a, b in spans])
        expected = np.concatenate([np.arange(a, b) for a, b in corpus.spans])
        np.testing.assert_array_equal(np.sort(covered), expected)


@given(lines, fractions, shards, st.integers(1, 9))
def test_symbols_are_counted_in_the_part_alone(
    make_corpus: MakeCorpus, documents: list[str], fraction: float, shard: int, block: int
) -> None:
    corpus = make_corpus("\n".join(documents), documents="line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SHARD", shard)
        patch.setattr(selection, "_BLOCK", block)
        for part in parts(corpus, fraction):
            counts = Counter(text_of(part))
            assert part.symbol_counts().tolist() == [counts[chr(code)] for code in corpus.alphabet]


@given(st.text("abc水\n", min_size=2, max_size=80), fractions)
def test_one_document_is_cut_once(make_corpus: MakeCorpus, text: str, fraction: float) -> None:
    train, validation, test = parts(make_corpus(text, documents="file"), fraction)
    assert text_of(train) + text_of(validation) == text and text_of(test) == "" and not train.whole_documents
    assert len(text_of(train)) == int(len(text) * (1 - fraction))


def test_the_held_out_tail_is_a_tenth(make_corpus: MakeCorpus) -> None:
    text = "".join(map(chr, range(32, 132)))
    train, validation, _ = split(make_corpus(text, documents="file"), 0.1, seed=0)
    assert text_of(train) == text[:90] and text_of(validation) == text[90:]
    train, validation, _ = split(make_corpus(text, text, documents="file"), 0.1, seed=0)
    assert text_of(train) == text[:90] * 2 and text_of(validation) == text[90:] * 2


def test_the_parts_of_one_document_follow_each_other(make_corpus: MakeCorpus) -> None:
    text = "".join(map(chr, range(32, 132)))
    train, validation, test = split(make_corpus(text, documents="file"), 0.1, seed=0, test_fraction=0.2)
    assert test is not None
    assert [text_of(part) for part in (train, validation, test)] == [text[:70], text[70:80], text[80:]]


def test_the_validation_documents_stay_when_some_are_kept_back(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("\n".join(map(str, range(1000, 1200))), documents="line")
    alone, beside = split(corpus, 0.1, seed=5), split(corpus, 0.1, seed=5, test_fraction=0.25)
    assert alone.test is None and beside.test is not None
    assert (spans_of(alone.validation) == spans_of(beside.validation)).all() and len(spans_of(beside.test)) == 50


def test_the_seed_decides_the_choice(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("\n".join(map(str, range(1000, 1200))), documents="line")
    chosen = [spans_of(split(corpus, 0.1, seed)[1]).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2] and len(chosen[0]) == len(chosen[2]) == 20


def test_more_documents_than_a_shard_holds(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("".join(f"{number}\n" for number in range(140_000)), documents="line")
    train, validation, _ = split(corpus, 0.1, seed=3)
    assert train.shard_count == 3 and len(spans_of(validation)) == 14_000
    together = np.concatenate([spans_of(train), spans_of(validation)])
    np.testing.assert_array_equal(together[np.argsort(together[:, 0])], corpus.spans)
    assert train.symbol_counts().sum() == train.positions - 126_000


def test_known_characters_keep_their_ids(make_corpus: MakeCorpus) -> None:
    train, _, _ = split(make_corpus("zab" * 30 + "QQ" + "!", documents="file"), 0.01, seed=0)
    assert vocabulary_of(train, known=Vocabulary("xzb")).characters == "xzbQa"
    assert vocabulary_of(train, 3, known=Vocabulary("xzb")).characters == "xzba"
    assert vocabulary_of(train, max_vocab=4, known=Vocabulary("xzb")).characters == "xzba"
    assert vocabulary_of(train, max_vocab=1, known=Vocabulary("xzb")).characters == "xzb"


def test_too_little_text_is_refused(make_corpus: MakeCorpus) -> None:
    with pytest.raises(CorpusError, match=r"holds 1 characters, too few to hold 10% out .*--val-fraction"):
        split(make_corpus("a", documents="file"), 0.1, seed=0)
    with pytest.raises(CorpusError, match=r"too few to hold 0% out for test; .*--test-fraction"):
        split(make_corpus("ab", documents="file"), 0.5, seed=0, test_fraction=1e-17)
    train, validation, _ = split(make_corpus("ab", documents="file"), 0.1, seed=0)
    assert text_of(train) + text_of(validation) == "ab"


def test_the_vocabulary_is_of_the_training_part(make_corpus: MakeCorpus) -> None:
    train, _, _ = split(make_corpus("a" * 50 + "b" * 38 + "cc" + "d" * 10, documents="file"), 0.1, seed=0)
    assert vocabulary_of(train).characters == "abc"
    assert vocabulary_of(train, min_count=3).characters == "ab"
    assert vocabulary_of(train, max_vocab=1).characters == "a"
    with pytest.raises(CorpusError, match=r"no character occurs 51 times .*--min-count"):
        vocabulary_of(train, min_count=51)
