"""What a document is: the maximal runs of text between separators, found block by block."""

import codecs
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from charrnn.errors import ConfigError, CorpusError
from charrnn.text.reading import decoded_blocks

STYLES = ("file", "line", "paragraph")
_NEWLINE, _RETURN = 10, 13
_LONGEST_HELD_RUN = 1 << 20
_FEW_LINES, _LONG_LINE = 100, 400


def resolve_style(style: str, files: Sequence[Path], encoding: str, errors: str) -> str:
    """Turn `auto` into `line` or `file` by looking at the head of each file.

    `line` is for many short lines with no blank line among them. A separator may be written with
    escapes such as `\\n---\\n`. Raises ConfigError for an empty separator.
    """
    if style == "auto":
        return "line" if all(_looks_like_lines(path, encoding, errors) for path in files) else "file"
    if style in STYLES:
        return style
    separator = _unescaped(style) if "\\" in style else style
    if not separator:
        raise ConfigError("--documents must be file, line, paragraph, auto or a separator, not an empty text")
    return separator


def written(style: str) -> str:
    """A resolved style as a person would write it: `resolve_style` gives it back."""
    return style.replace("\\", "\\\\")


def _unescaped(separator: str) -> str:
    try:
        return codecs.decode(separator.encode("latin-1", "backslashreplace"), "unicode_escape")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--documents {separator}: not a valid escape ({error.reason})") from None


def _looks_like_lines(path: Path, encoding: str, errors: str) -> bool:
    codes = next(decoded_blocks(path, encoding, errors), np.zeros(0, np.uint8))
    ends = np.flatnonzero(codes == _NEWLINE)
    if len(ends) < _FEW_LINES:
        return False
    text = codes[: ends[-1] + 1]
    lengths = np.diff(ends, prepend=-1) - 1 - np.count_nonzero(text == _RETURN) / len(ends)
    lengths = np.trim_zeros(lengths)  # blank lines before the first and after the last line separate nothing
    return bool(len(lengths) and lengths.min() > 0 and lengths.mean() <= _LONG_LINE)


class DocumentFinder:
    """Finds the documents of files fed to it block by block.

    Positions count the characters fed since the start, over all files. What is not yet decided
    (white space that may become a blank line, the first half of a separator) is held back.
    """

    def __init__(self, style: str):
        self.style = style
        self._held = np.zeros(0, np.uint32)
        self._position = 0
        self._inside = False
        self._open_start = 0
        self._at_file_start = True

    def feed(self, codes: np.ndarray) -> np.ndarray:
        """Take the next code points of a file; return the `[N, 2]` starts and ends decided by them."""
        if len(self._held):
            codes = np.concatenate([self._held, codes])
        separates, decided = self._separators(codes)
        self._held = codes[decided:]
        return self._runs(separates[:decided])

    def end_file(self) -> np.ndarray:
        """Close the file: its last document ends here. Returns the `[N, 2]` spans that decides."""
        held, self._held = self._held, self._held[:0]
        separates = np.full(len(held), self.style == "paragraph")
        spans = self._runs(separates)
        if self._inside:
            spans = np.concatenate([spans, [[self._open_start, self._position]]])
            self._inside = False
        self._at_file_start = True
        return spans

    def _separators(self, codes: np.ndarray) -> tuple[np.ndarray, int]:
        """Which characters separate documents, and for how many of them that is decided."""
        if self.style == "file":
            return np.zeros(len(codes), bool), len(codes)
        if self.style == "line":
            return (codes == _NEWLINE) | (codes == _RETURN), len(codes)
        if self.style == "paragraph":
            return _blank_lines(codes, self._at_file_start)
        return _occurrences(codes, self.style)

    def _runs(self, separates: np.ndarray) -> np.ndarray:
        """Spans of the runs of text that end here; a run still open is remembered."""
        if not len(separates):
            return np.zeros((0, 2), np.int64)
        text = ~separates
        toggles = np.flatnonzero(text[1:] != text[:-1]) + 1
        if text[0] != self._inside:
            toggles = np.concatenate([[0], toggles])
        edges = toggles + self._position
        if self._inside:
            edges = np.concatenate([[self._open_start], edges])
        self._inside = len(edges) % 2 == 1
        if self._inside:
            self._open_start = int(edges[-1])
            edges = edges[:-1]
        self._position += len(separates)
        self._at_file_start = False
        return edges.reshape(-1, 2).astype(np.int64)


def _blank_lines(codes: np.ndarray, at_file_start: bool) -> tuple[np.ndarray, int]:
    """Runs of white space with two newlines or more separate, up to their last newline.

    The run that the block ends with is held back, and at a file's start one newline is enough.
    """
    newline = codes == _NEWLINE
    white = newline | (codes == _RETURN) | (codes == 32) | (codes == 9)
    bounded = np.concatenate([[False], white, [False]])
    edges = np.flatnonzero(bounded[1:] != bounded[:-1])
    starts, ends = edges[::2], edges[1::2]
    decided = len(codes)
    if len(ends) and ends[-1] == len(codes) and ends[-1] - starts[-1] < _LONGEST_HELD_RUN:
        decided = int(starts[-1])
        starts, ends = starts[:-1], ends[:-1]
    long_enough = (ends - starts > 1) | (starts == 0)  # spares a look into every space between words
    starts, ends = starts[long_enough], ends[long_enough]
    newlines = np.flatnonzero(newline)
    newlines_before_end = np.searchsorted(newlines, ends)
    count = newlines_before_end - np.searchsorted(newlines, starts)
    needed = np.where((starts == 0) & at_file_start, 1, 2)
    blank = count >= needed
    return _mask(len(codes), starts[blank], newlines[newlines_before_end[blank] - 1] + 1), decided


def _occurrences(codes: np.ndarray, separator: str) -> tuple[np.ndarray, int]:
    text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    starts = []
    at = text.find(separator)
    while at >= 0:
        starts.append(at)
        at = text.find(separator, at + len(separator))
    ends = np.array(starts, np.int64) + len(separator)
    decided = max(int(ends[-1]) if starts else 0, len(codes) - len(separator) + 1, 0)
    return _mask(len(codes), np.array(starts, np.int64), ends), decided


def _mask(length: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """True inside the spans, which are sorted and do not overlap."""
    steps = np.zeros(length + 1, np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)


def require_documents(count: int, names: Sequence[Path]) -> None:
    """Raise CorpusError when the files hold no document at all."""
    if not count:
        which = str(names[0]) if len(names) == 1 else f"the {len(names)} files"
        raise CorpusError(f"{which}: empty; give a text with something in it")
