"""Batches: every position once an epoch, in order, and nothing but a function of the step."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.text import selection
from charrnn.text.batches import NO_TARGET, Batch, Positions, TrainBatches, ValidationBatches
from charrnn.text.corpus import Corpus
from charrnn.text.selection import Selection
from charrnn.text.vocabulary import EOS, UNK, Vocabulary

MakeCorpus = Callable[..., Corpus]
VOCABULARY = Vocabulary("abcde")  # f is unknown
few = st.lists(st.text("abcdef", min_size=1, max_size=40), min_size=1, max_size=9)
many = st.lists(st.text("abcdef", min_size=1, max_size=5), min_size=10, max_size=40)
documents_lists = few | many
lengths, widths, shards = st.integers(1, 9), st.integers(1, 6), st.sampled_from([1, 4, 1 << 16])


def positions_of(corpus: Corpus, part: selection.Part = "train", seed: int = 0) -> Positions:
    """The positions of a part with a third held out."""
    return Positions.of(Selection(corpus, part, 1 / 3, seed), VOCABULARY)


def documents_of(part: Selection) -> list[list[int]]:
    """The ids of each document of a part, in the order of the text."""
    ids = VOCABULARY.ids_of_code_points(part.corpus.alphabet)[part.corpus.symbols]
    return [ids[a:b].tolist() for index in range(part.shard_count) for a, b in part.shard(index)]


def row_of(positions: Positions, epoch: int | None) -> Batch:
    """All positions in one row."""
    return positions.look_up(np.arange(len(positions)), epoch)


def streams_of(batches: list[Batch], width: int) -> list[Batch]:
    """For each stream, its scored positions in the order in which they were read."""
    whole = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    scored = whole[1] != NO_TARGET
    return [Batch(*(part[scored[:, b], b] for part in whole)) for b in range(width)]


def assert_same_reading(found: Batch, expected: Batch) -> None:
    """The same targets, and the same inputs wherever an input is used."""
    np.testing.assert_array_equal(found.targets, expected.targets)
    used = ~found.resets
    np.testing.assert_array_equal(found.inputs[used], expected.inputs[used])
    assert found.resets[expected.resets].all()


@given(documents_lists, shards, st.integers(0, 2) | st.none())
def test_a_row_is_its_documents(make_corpus: MakeCorpus, texts: list[str], shard: int, epoch: int | None) -> None:
    corpus = make_corpus("\n".join(texts), documents="line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SHARD", shard)
        positions = positions_of(corpus)
        if not len(positions):
            return
        documents, whole = documents_of(positions.selection), positions.selection.whole_documents
        row = row_of(positions, epoch)
    starts = np.flatnonzero(row.resets)
    found = [targets.tolist() for targets in np.split(row.targets, starts)[1:]]
    if whole:
        assert all(document.pop() == EOS for document in found)
    assert not any(EOS in document for document in found)
    if epoch is None or not whole:
        assert found == documents
    else:
        assert Counter(map(tuple, found)) == Counter(map(tuple, documents))
    inside = np.flatnonzero(~row.resets)
    np.testing.assert_array_equal(row.inputs[inside], row.targets[inside - 1])


@given(documents_lists, lengths, widths, shards, st.integers(0, 2))
def test_an_epoch_reads_every_position_once_in_order(
    make_corpus: MakeCorpus, texts: list[str], seq_length: int, batch_size: int, shard: int, epoch: int
) -> None:
    corpus = make_corpus("\n".join(texts), documents="line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SHARD", shard)
        positions = positions_of(corpus)
        if not len(positions):
            return
        batches = TrainBatches(positions, seq_length, batch_size)
        count = batches.steps_per_epoch
        windows = [batches.batch(epoch * count + window) for window in range(count)]
        row = row_of(positions, epoch)
    assert all(part.shape == (seq_length, batch_size) for window in windows for part in window)
    assert all(part.dtype == kind for part, kind in zip(windows[0], (np.int32, np.int32, bool), strict=True))
    for b, stream in enumerate(streams_of(windows, batch_size)):
        piece = slice(b * batches.stream_length, (b + 1) * batches.stream_length)
        assert_same_reading(stream, Batch(*(part[piece] for part in row)))
    starts = set(np.flatnonzero(row.resets))
    if not positions.selection.whole_documents:  # else a stream may begin inside a document, which does not start there
        starts |= {b * batches.stream_length for b in range(batch_size)}
    resets = np.concatenate([stream.resets for stream in streams_of(windows, batch_size)])
    assert set(np.flatnonzero(resets)) == {start for start in starts if start < len(positions)}


@given(documents_lists, lengths, widths, st.integers(0, 12), shards)
def test_validation_scores_every_position_once_in_context(
    make_corpus: MakeCorpus, texts: list[str], seq_length: int, batch_size: int, overlap: int, shard: int
) -> None:
    corpus = make_corpus("\n".join(texts), documents="line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SHARD", shard)
        positions = positions_of(corpus, "validation")
        if not len(positions):
            return
        batches = ValidationBatches(positions, seq_length, batch_size, overlap)
        windows = [batches.batch(window) for window in range(len(batches))]
        row = row_of(positions, None)
    whole = Batch(*(np.concatenate(parts) for parts in zip(*windows, strict=True)))
    for b, stream in enumerate(streams_of(windows, batch_size)):
        start = b * batches.stream_length
        piece = slice(start, start + batches.stream_length)
        assert_same_reading(stream, Batch(*(part[piece] for part in row)))
        scored = np.flatnonzero(whole.targets[:, b] != NO_TARGET)
        if len(scored):  # what comes before: as much of the text as the overlap asks for
            first, before = scored[0], min(overlap, start)
            read = slice(first - before + 1, scored[-1] + 1)
            same = np.arange(start - before + 1, start + len(scored))
            np.testing.assert_array_equal(whole.resets[read, b], row.resets[same])
            used = ~row.resets[same]
            np.testing.assert_array_equal(whole.inputs[read, b][used], row.inputs[same][used])


@given(st.data(), lengths, widths)
def test_a_batch_is_a_function_of_the_step(
    make_corpus: MakeCorpus, data: st.DataObject, seq_length: int, batch_size: int
) -> None:
    corpus = make_corpus("\n".join(data.draw(many)), documents="line")

    def fresh() -> TrainBatches:
        return TrainBatches(positions_of(corpus), seq_length, batch_size, reset_rate=0.1)

    batches, steps = fresh(), data.draw(st.lists(st.integers(0, 200), min_size=1, max_size=8))
    for step in steps + steps[::-1]:
        for found, expected in zip(batches.batch(step), fresh().batch(step), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_whole_documents_are_shuffled_anew_each_epoch(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("\n".join(["abc", "de", "ead", "b", "cc"] * 10), documents="line")
    rows = [row_of(positions_of(corpus, seed=seed), epoch).targets.tolist()
            for seed, epoch in ((0, 0), (0, 1), (0, 0), (1, 0), (0, None))]  # fmt: skip
    assert rows[0] == rows[2] and len({tuple(row) for row in rows}) == 4


def test_unknown_characters_are_unk(make_corpus: MakeCorpus) -> None:
    row = row_of(positions_of(make_corpus("afa" * 5, documents="file")), 0)
    assert row.targets.tolist() == [2, UNK, 2] * 3 + [2] and row.resets.tolist() == [True] + [False] * 9


def test_a_long_document_is_started_anew_now_and_then(make_corpus: MakeCorpus) -> None:
    positions = positions_of(make_corpus("abcde" * 3000, documents="file"))
    batches, plain = TrainBatches(positions, 50, 10, reset_rate=0.1), TrainBatches(positions, 50, 10)
    assert batches.steps_per_epoch == 20
    windows = [batches.batch(step) for step in range(20)]
    assert 0.08 < np.mean([window.resets for window in windows]) < 0.12
    for step, window in enumerate(windows):
        np.testing.assert_array_equal(window.targets, plain.batch(step).targets)
        np.testing.assert_array_equal(window.inputs, plain.batch(step).inputs)
    assert (windows[3].resets != batches.batch(23).resets).any()  # other places each epoch


def test_whole_documents_have_no_other_starts(make_corpus: MakeCorpus) -> None:
    positions = positions_of(make_corpus("abcde\n" * 90, documents="line"))
    batch = TrainBatches(positions, 360, 1, reset_rate=1.0).batch(0)
    assert batch.resets.sum() == 60 and (batch.targets == EOS).sum() == 60
