"""A corpus on disk: what comes back, how wide it is, when the cache is taken."""

import errno
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import ConfigError, CorpusError, StorageError
from charrnn.text import corpus as corpus_module
from charrnn.text import reading
from charrnn.text.corpus import (
    Corpus,
    SymbolWriter,
    cache_key,
    find_prepared,
    holds_document,
    prepare,
)

MakeCorpus = Callable[..., Corpus]
DocumentsOf = Callable[[Corpus], list[str]]
texts = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1)


def text_of(corpus: Corpus) -> str:
    """All characters of a corpus."""
    return "".join(map(chr, corpus.alphabet[corpus.symbols]))


@given(st.lists(texts, min_size=1, max_size=3), st.integers(1, 20))
def test_what_goes_in_comes_out(
    make_corpus: MakeCorpus, documents_of: DocumentsOf, files: list[str], block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK_BYTES", block)
        corpus = make_corpus(*files, documents="file")
    assert documents_of(corpus) == files and text_of(corpus) == "".join(files)
    assert corpus.characters == len(text_of(corpus)) and corpus.symbols.dtype == np.uint8
    assert sorted(map(chr, corpus.alphabet)) == sorted(set("".join(files)))
    assert corpus.carriage_returns == ("\r" in text_of(corpus))


@given(st.lists(st.integers(0, 0x10FFFF).map(lambda code: np.array([code], np.uint32)) | st.integers(0, 600).map(
    lambda count: np.arange(count, dtype=np.uint32) + 1000), max_size=12))  # fmt: skip
def test_symbols_name_the_characters_written(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("symbols") / "symbols"
    with SymbolWriter(path) as writer:
        for block in blocks:
            writer.write(block)
    symbols = np.fromfile(path, writer.dtype)
    expected = np.concatenate([np.zeros(0, np.uint32), *blocks])
    assert writer.characters == len(symbols) and len(set(writer.alphabet)) == len(writer.alphabet)
    np.testing.assert_array_equal(writer.alphabet[symbols], expected)
    assert writer.dtype == (np.uint16 if len(writer.alphabet) > 256 else np.uint8)


@pytest.mark.parametrize(("characters", "dtype"), [(256, "u1"), (257, "u2"), (65_536, "u2"), (65_537, "u4")])
def test_symbols_are_as_narrow_as_they_can_be(tmp_path: Path, characters: int, dtype: str) -> None:
    codes = np.arange(characters, dtype=np.uint32) + 0x20000
    with SymbolWriter(tmp_path / "symbols") as writer:
        for part in (codes[:5], codes[:256], codes[:300], codes, codes[::-1]):
            writer.write(part)
    assert writer.dtype == np.dtype(dtype)
    written = writer.alphabet[np.fromfile(tmp_path / "symbols", writer.dtype)]
    np.testing.assert_array_equal(written, np.concatenate([codes[:5], codes[:256], codes[:300], codes, codes[::-1]]))
    assert os.listdir(tmp_path) == ["symbols"]


def test_a_corpus_of_many_characters(make_corpus: MakeCorpus) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))
    corpus = make_corpus(text, documents="file")
    assert text_of(corpus) == text and corpus.symbols.dtype == np.uint16


def test_the_same_bytes_are_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("some text")
    first = prepare([tmp_path / "a"], documents="file", cache=tmp_path / "cache")
    monkeypatch.setattr(corpus_module, "_prepare_into", None)
    again = prepare([tmp_path / "b"], documents="file", cache=tmp_path / "cache")
    assert again.folder == first.folder and again.fingerprint == first.fingerprint and text_of(again) == "some text"


def test_the_cache_tells_contents_and_choices_apart(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", tmp_path / "cache"
    file.write_text("some text\n")
    folders = {prepare([file], documents=style, cache=cache).folder for style in ("file", "line", "paragraph", "x")}
    folders.add(prepare([file], encoding="latin-1", cache=cache).folder)
    folders.add(prepare([file], errors="ignore", cache=cache).folder)
    stat = file.stat()
    file.write_text("same size\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the hash is of the content, not of the time
    changed = prepare([file], documents="file", cache=cache)
    assert text_of(changed) == "same size\n" and len(folders | {changed.folder}) == 7


@pytest.mark.parametrize("damage", ["symbols", "spans", "corpus.json", "cut", "half", "flip", "shift", "other"])
def test_a_broken_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a").write_text("some text")
    folder = prepare([tmp_path / "a"], cache=tmp_path / "cache").folder
    if damage == "cut":
        (folder / "symbols").write_bytes(b"\0\1")
    elif damage == "half":
        (folder / "corpus.json").write_text('{"dtype": ')
    elif damage == "other":
        facts = (folder / "corpus.json").read_text()
        (folder / "corpus.json").write_text(facts.replace('"s", "o"', '"o", "s"'))
    elif damage in ("flip", "shift"):
        file = folder / {"flip": "symbols", "shift": "spans"}[damage]
        content = bytearray(file.read_bytes())
        content[8 if damage == "shift" else 3] ^= 1
        file.write_bytes(content)
    else:
        (folder / damage).unlink()
    assert text_of(prepare([tmp_path / "a"], cache=tmp_path / "cache")) == "some text"
    assert [path.name for path in (tmp_path / "cache" / "corpora").iterdir()] == [folder.name]


def test_what_another_process_stored_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("ab", "utf-8")
    write, stored = corpus_module._write_symbols, list[Path]()

    def write_slowly(*arguments: Any) -> dict[str, Any]:
        facts = write(*arguments)
        if not stored:  # this one is overtaken
            stored.append(tmp_path)
            stored[0] = prepare([tmp_path / "a.txt"], cache=tmp_path / "cache").folder
            (stored[0] / "mark").touch()
        return facts

    monkeypatch.setattr(corpus_module, "_write_symbols", write_slowly)
    again = prepare([tmp_path / "a.txt"], cache=tmp_path / "cache")
    assert again.folder == stored[0] and (again.folder / "mark").exists() and text_of(again) == "ab"
    assert os.listdir(tmp_path / "cache" / "corpora") == [again.folder.name]


def test_nothing_is_left_when_preparing_fails(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"good\xff")
    with pytest.raises(CorpusError, match="at byte 4 "):
        prepare([tmp_path / "bad"], documents="file", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "corpora").iterdir())


def test_a_full_disk_says_how_much_is_needed_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_text("some text")
    with monkeypatch.context() as patch, pytest.raises(StorageError) as told:
        patch.setattr(SymbolWriter, "write", full)
        prepare([tmp_path / "a"], cache=tmp_path / "cache")
    assert "cache/corpora: cannot prepare the corpus (No space left on device); it needs about 9 bytes" in str(
        told.value
    )
    assert "CHARRNN_CACHE" in str(told.value) and not list((tmp_path / "cache" / "corpora").iterdir())
    monkeypatch.setattr(reading.tempfile, "NamedTemporaryFile", full)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"some text")))
    with pytest.raises(StorageError, match=r"piped: cannot keep what comes from the pipe \(No space.*CHARRNN_CACHE"):
        prepare(["-"], cache=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "corpora" / "piped").iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("some text")
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(StorageError, match="cannot prepare the corpus"):
        prepare([tmp_path / "a"], cache=tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n\r\n"])
def test_empty_texts_are_refused(make_corpus: MakeCorpus, content: bytes) -> None:
    with pytest.raises(CorpusError, match="empty; give a text with something in it"):
        make_corpus(content, documents="line")
    with pytest.raises(CorpusError, match="the 2 files: empty"):
        make_corpus(content, b"", documents="paragraph")


def test_options_are_checked_before_the_text_is_read(make_corpus: MakeCorpus) -> None:
    with pytest.raises(ConfigError, match="--documents"):
        make_corpus(b"\xff", documents="")
    with pytest.raises(CorpusError, match="--encoding none-such"):
        make_corpus(b"\xff", encoding="none-such")


def test_progress_counts_up_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 10)
    files = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for file, content in zip(files, ["x" * 95, "水" * 20, ""], strict=True):
        file.write_text(content, "utf-8")
    seen: list[tuple[int, int]] = []
    prepare(files, documents="file", cache=tmp_path / "cache", progress=lambda *figures: seen.append(figures))
    done = [figure for figure, _ in seen]
    assert {total for _, total in seen} == {155} and done == sorted(done) and done[-1] == 155
    assert done[:10] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]


def test_pipes_are_removed_once_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "in").open("w+") as file:
        file.write("from a pipe")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        assert text_of(prepare(["-"], cache=tmp_path / "cache")) == "from a pipe"
    assert not list((tmp_path / "cache" / "corpora" / "piped").iterdir())


def test_a_prepared_corpus_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("some text")
    corpus = prepare([tmp_path / "a"], documents="file")
    found = find_prepared(corpus.fingerprint, "file", "utf-8", "strict")
    assert found and found.folder == corpus.folder == tmp_path / "cache" / "corpora" / cache_key(
        corpus.fingerprint, "file", "utf-8", "strict"
    )  # fmt: skip
    assert json.loads((corpus.folder / "corpus.json").read_text("utf-8"))["style"] == "file"
    assert find_prepared(corpus.fingerprint, "line", "utf-8", "strict") is None


def test_documents_are_recognised_to_the_letter(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("ann\nanna\n水水\nbob\n", documents="line")
    assert all(holds_document(corpus, text) for text in ("ann", "anna", "水水", "bob"))
    assert not any(holds_document(corpus, text) for text in ("", "an", "nna", "水", "水水水", "bo", "zoe", "ann\nanna"))


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=9), st.text("abcd", max_size=4))
def test_a_text_is_held_when_it_is_a_document(make_corpus: MakeCorpus, lines: list[str], text: str) -> None:
    assert holds_document(make_corpus("\n".join(lines), documents="line"), text) == (text in lines)


def test_a_text_that_changes_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "growing.log"
    file.write_text("one line\n")

    def grow(done: int, total: int) -> None:
        if file.stat().st_size == len("one line\n"):
            file.write_text("one line\nanother\n")

    with pytest.raises(CorpusError, match=r"growing.log: it changed while it was read"):
        prepare([file], documents="file", cache=tmp_path / "cache", progress=grow)
    assert not list((tmp_path / "cache" / "corpora").iterdir())
    assert text_of(prepare([file], documents="file", cache=tmp_path / "cache")) == file.read_text()


def test_what_killed_preparations_left_is_removed_after_a_day(tmp_path: Path) -> None:
    corpora, ages = tmp_path / "cache" / "corpora", {"partial-old": 90_000, "partial-new": 80_000}
    for name, age in ages.items():
        (corpora / name).mkdir(parents=True)
        (corpora / name / "symbols").write_bytes(b"half")
        for path in (corpora / name / "symbols", corpora / name):
            os.utime(path, (time.time() - age,) * 2)
    (corpora / "partial-working").mkdir()
    (corpora / "partial-working" / "symbols").write_bytes(b"half")
    os.utime(corpora / "partial-working", (0, 0))  # its file is written to
    (tmp_path / "a").write_text("some text")
    corpus = prepare([tmp_path / "a"], cache=tmp_path / "cache")
    assert {path.name for path in corpora.iterdir()} == {"partial-new", "partial-working", corpus.folder.name}
