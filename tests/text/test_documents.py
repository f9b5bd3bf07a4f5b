"""What a document is: each style against a plain definition of it, whatever the blocks and files."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import ConfigError, CorpusError
from charrnn.text.corpus import Corpus
from charrnn.text.documents import DocumentFinder, require_documents, resolve_style, written
from charrnn.text.vocabulary import code_points

SEPARATORS = ["-", "--", "aba", "\n---\n", "a\n", "水", "\n\n"]
files_of_text = st.lists(st.text("ab-水 \t\r\n\n", max_size=30), min_size=1, max_size=3)
cuts = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def blocks_of(text: str, sizes: list[int]) -> Iterator[np.ndarray]:
    """A text's code points in blocks of the given sizes, over and over; ASCII blocks are uint8."""
    start, turn = 0, 0
    while start < len(text):
        block = text[start : start + sizes[turn % len(sizes)]]
        yield code_points(block).astype(np.uint8 if block.isascii() else np.uint32)
        start, turn = start + len(block), turn + 1


def spans_found(style: str, files: list[str], sizes: list[int]) -> list[tuple[int, int]]:
    """The documents that a DocumentFinder finds, in positions over all files."""
    finder, spans = DocumentFinder(style), []
    for text in files:
        spans += [finder.feed(block) for block in blocks_of(text, sizes)] + [finder.end_file()]
    return [(int(a), int(b)) for found in spans for a, b in found]


def separators_of(style: str, text: str) -> Iterator[tuple[int, int]]:
    """The definition of each style: where the separators of one whole file lie."""
    if style == "paragraph":
        for white in re.finditer(r"[ \t\r\n]+", text):
            if white.end() == len(text):
                yield white.span()
            elif white[0].count("\n") >= (2 if white.start() else 1):
                yield white.start(), white.start() + white[0].rindex("\n") + 1
    elif style != "file":
        pattern = r"[\r\n]+" if style == "line" else re.escape(style)
        yield from (match.span() for match in re.finditer(pattern, text))


def spans_defined(style: str, files: list[str]) -> list[tuple[int, int]]:
    """The documents: what lies between the separators, unless it is nothing."""
    spans, offset = [], 0
    for text in files:
        start = 0
        for a, b in [*separators_of(style, text), (len(text), len(text))]:
            spans += [(offset + start, offset + a)] if a > start else []
            start = b
        offset += len(text)
    return spans


@given(st.sampled_from(["file", "line", "paragraph", *SEPARATORS]), files_of_text, cuts)
def test_documents_are_what_lies_between_separators(style: str, files: list[str], sizes: list[int]) -> None:
    assert spans_found(style, files, sizes) == spans_defined(style, files)


@given(st.sampled_from(["file", "line", "paragraph", *SEPARATORS]), files_of_text, cuts)
def test_documents_and_what_is_between_are_the_text(style: str, files: list[str], sizes: list[int]) -> None:
    text, rebuilt, end = "".join(files), "", 0
    separators = {"file": "", "line": "\r\n", "paragraph": " \t\r\n"}.get(style, style)
    for a, b in spans_found(style, files, sizes):
        assert end <= a < b
        assert set(text[end:a]) <= set(separators)
        rebuilt, end = rebuilt + text[end:a] + text[a:b], b
    assert rebuilt + text[end:] == text and set(text[end:]) <= set(separators)


def test_a_paragraph_keeps_its_indent_and_its_single_line_breaks() -> None:
    text = "\n  first\nline \r\n \r\n\tsecond\n\n\n\nthird\n"
    assert [text[a:b] for a, b in spans_found("paragraph", [text], [3])] == ["  first\nline", "\tsecond", "third"]


def style_of(tmp_path: Path, *texts: str, style: str = "auto") -> str:
    """The style that is taken for files of these texts."""
    files = [tmp_path / str(number) for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text.encode("utf-8"))
    return resolve_style(style, files, "utf-8", "strict")


NAMES = "emma\nolivia\nada\n" * 60


@pytest.mark.parametrize(
    ("texts", "style"),
    [
        ([NAMES], "line"),
        ([NAMES.rstrip("\n")], "line"),
        ([NAMES.replace("\n", "\r\n")], "line"),
        ([NAMES + "\n\n"], "line"),
        (["\n" + NAMES], "line"),
        (["床前明月光\n" * 200], "line"),
        ([NAMES, NAMES], "line"),
        ([NAMES, "one long text"], "file"),
        ([NAMES + "\n" + NAMES], "file"),
        ([(NAMES + "\n" + NAMES).replace("\n", "\r\n")], "file"),
        (["name\n" * 99], "file"),
        (["x" * 500 + "\n" + "y" * 500 + "\n" * 200], "file"),
        ([("word " * 100 + "\n") * 200], "file"),
        (["\n" * 500], "file"),
        ([""], "file"),
    ],
)
def test_auto_takes_lines_for_many_short_ones(tmp_path: Path, texts: list[str], style: str) -> None:
    assert style_of(tmp_path, *texts) == style


@pytest.mark.parametrize(
    ("given_style", "style"),
    [("line", "line"), (r"\n---\n", "\n---\n"), ("---", "---"), (r"水\t", "水\t"), (r"a\\n", r"a\n"), ("\n", "\n")],
)
def test_separators_may_be_written_with_escapes(tmp_path: Path, given_style: str, style: str) -> None:
    assert style_of(tmp_path, NAMES, style=given_style) == style


@pytest.mark.parametrize("style", ["file", "---", "\n---\n", r"\newpage", r"a\\nb", "水\t\\"])
def test_a_separator_that_is_written_down_is_read_again(style: str) -> None:
    assert resolve_style(written(style), (), "utf-8", "strict") == style


@pytest.mark.parametrize("style", ["", "\\\n", "\\", r"\x4", r"\N{no such name}"])
def test_unusable_separators_are_refused(tmp_path: Path, style: str) -> None:
    with pytest.raises(ConfigError, match=r"^--documents "):
        style_of(tmp_path, NAMES, style=style)


def test_no_document_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.txt: empty; "):
        require_documents(0, [tmp_path / "a.txt"])
    with pytest.raises(CorpusError, match=r"the 2 files: empty; "):
        require_documents(0, [tmp_path, tmp_path])


def test_line_documents_of_a_corpus(
    make_corpus: Callable[..., Corpus], documents_of: Callable[[Corpus], list[str]]
) -> None:
    corpus = make_corpus("ann\r\nbob", "\ncleo\n\n", documents="line")
    assert documents_of(corpus) == ["ann", "bob", "cleo"] and corpus.carriage_returns
