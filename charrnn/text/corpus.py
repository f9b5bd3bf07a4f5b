"""A corpus on disk: every character as a small integer, memory-mapped, and where the documents lie.

Preparing reads each file twice, once for its hash and once for its characters, in constant memory.
What is stored does not depend on the split or the vocabulary: a *symbol* is the rank of a character
by first appearance, and `alphabet` says which code point each symbol is.
"""

import contextlib
import errno
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charrnn.errors import CorpusError, StorageError
from charrnn.text.cache import remove_left_over, usable_cache_folder
from charrnn.text.documents import DocumentFinder, require_documents, resolve_style
from charrnn.text.reading import content_hash, decoded_blocks, find_files, remove_spooled
from charrnn.text.vocabulary import code_points

_FORMAT = 2
_CODE_POINTS = 0x110000
_NO_SYMBOL = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus.

    `symbols` is `[characters]` of the smallest unsigned type that fits, `spans` the documents'
    `[N, 2]` starts and ends in it, both memory-mapped; `alphabet[symbol]` is its code point.
    """

    folder: Path
    fingerprint: str
    style: str
    symbols: np.ndarray
    spans: np.ndarray
    alphabet: np.ndarray
    carriage_returns: bool

    @property
    def characters(self) -> int:
        """Characters in all files, separators included."""
        return len(self.symbols)

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open what `prepare` stored in `folder`. Raises OSError, ValueError or KeyError when it is damaged."""
        facts = json.loads((folder / "corpus.json").read_text("utf-8"))
        if facts.pop("sha256") != _digest(folder, facts):
            raise ValueError("damaged")
        symbols = np.memmap(folder / "symbols", facts["dtype"], "r", shape=(facts["characters"],))
        spans = np.memmap(folder / "spans", np.int64, "r", shape=(facts["documents"], 2))
        alphabet = code_points("".join(facts["alphabet"]))
        return cls(folder, facts["fingerprint"], facts["style"], symbols, spans, alphabet, facts["carriage_returns"])


def prepare(
    sources: Sequence[str | Path],
    *,
    documents: str = "auto",
    encoding: str = "utf-8",
    errors: str = "strict",
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corpus:
    """Turn files into a `Corpus`, or find the one prepared from the same bytes before.

    `progress` is called with the bytes read and their total. Raises CorpusError for sources that
    are missing, empty or not text, ConfigError for an unusable `documents`, StorageError where the
    cache cannot be written.
    """
    cache = (cache or usable_cache_folder()) / "corpora"
    spool = cache / "piped"
    files: list[Path] = []
    try:
        files = find_files(sources, spool, encoding)
        style = resolve_style(documents, files, encoding, errors)
        before = _stamps(files)
        fingerprint = content_hash(files)
        folder = cache / cache_key(fingerprint, style, encoding, errors)
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Corpus.open(folder)
        remove_left_over(cache)
        unchanged = partial(_require_unchanged, before)
        _prepare_into(folder, files, fingerprint, style, encoding, errors, progress, unchanged)
        return Corpus.open(folder)
    except OSError as error:
        advice = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = sum(path.stat().st_size for path in files)
            there = next(place for place in (cache, *cache.absolute().parents) if place.exists())
            room = f"it needs about {needed:,} bytes and {shutil.disk_usage(there).free:,} are free; " if needed else ""
            advice = f"; {room}make room, or name another folder in CHARRNN_CACHE"
        raise StorageError(
            f"{error.filename or cache}: cannot prepare the corpus ({error.strerror}){advice}"
        ) from error
    finally:
        remove_spooled(files, spool)


def _stamps(files: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Each file's size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def _require_unchanged(before: dict[Path, tuple[int, int]]) -> None:
    """Raise CorpusError where a file is not what it was."""
    if changed := [path for path, now in _stamps(list(before)).items() if now != before[path]]:
        raise CorpusError(f"{changed[0]}: it changed while it was read; try again when it no longer does")


def find_prepared(fingerprint: str, documents: str, encoding: str, errors: str) -> Corpus | None:
    """The corpus of that content if it is still in the user's cache, else None."""
    style = resolve_style(documents, (), encoding, errors)
    with contextlib.suppress(OSError, ValueError, KeyError):
        return Corpus.open(usable_cache_folder() / "corpora" / cache_key(fingerprint, style, encoding, errors))
    return None


def cache_key(fingerprint: str, style: str, encoding: str, errors: str) -> str:
    """The name of a prepared corpus in the cache: all that decides its bytes."""
    choices = json.dumps([_FORMAT, fingerprint, style, encoding, errors])
    return hashlib.sha256(choices.encode()).hexdigest()[:32]


def _prepare_into(
    folder: Path,
    files: Sequence[Path],
    fingerprint: str,
    style: str,
    encoding: str,
    errors: str,
    progress: Callable[[int, int], None],
    unchanged: Callable[[], None],
) -> None:
    """Write a prepared corpus; it appears under its name only when it is whole and the files are still `unchanged`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="partial-"))
    try:
        facts = _write_symbols(unfinished, files, style, encoding, errors, progress)
        require_documents(facts["documents"], files)
        facts |= {"fingerprint": fingerprint, "style": style}
        facts["sha256"] = _digest(unfinished, facts)
        (unfinished / "corpus.json").write_text(json.dumps(facts), "utf-8")
        unchanged()
        _store(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _store(unfinished: Path, folder: Path) -> None:
    """Give a prepared corpus its name, unless another process has stored the same one meanwhile and may read it."""
    with contextlib.suppress(OSError):
        unfinished.rename(folder)
        return
    try:
        Corpus.open(folder)
    except (OSError, ValueError, KeyError):  # what is there is not whole
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            unfinished.rename(folder)


def _digest(folder: Path, facts: dict[str, Any]) -> str:
    """SHA-256 over what is said of a prepared corpus and over its files, as hex."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in ("symbols", "spans"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _write_symbols(
    folder: Path,
    files: Sequence[Path],
    style: str,
    encoding: str,
    errors: str,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    total, done = sum(path.stat().st_size for path in files), 0
    documents, carriage_returns, document_count = DocumentFinder(style), False, 0
    with (folder / "spans").open("wb") as spans_file, SymbolWriter(folder / "symbols") as writer:
        for path in files:
            read, size = 0, path.stat().st_size
            for codes in decoded_blocks(path, encoding, errors):
                writer.write(codes)
                carriage_returns = carriage_returns or bool((codes == ord("\r")).any())
                spans = documents.feed(codes)
                document_count += len(spans)
                spans_file.write(spans.tobytes())
                read = min(read + len(codes), size)
                progress(done + read, total)
            spans = documents.end_file()
            document_count += len(spans)
            spans_file.write(spans.tobytes())
            done += size
            progress(done, total)
        return {
            "dtype": writer.dtype.str,
            "characters": writer.characters,
            "documents": document_count,
            "alphabet": list(writer.alphabet.tobytes().decode("utf-32-le", "surrogatepass")),
            "carriage_returns": carriage_returns,
        }


class SymbolWriter:
    """Writes code points to a file as symbols, in the smallest unsigned type that fits them all.

    When a new character no longer fits, what was written is widened, at most twice in all.
    """

    def __init__(self, path: Path):
        self.path = path
        self.dtype = np.dtype(np.uint8)
        self.characters = 0
        self.alphabet = np.zeros(0, "<u4")
        self._symbol_of = np.full(_CODE_POINTS, _NO_SYMBOL, np.uint32)
        self._file: BinaryIO = path.open("wb")

    def __enter__(self) -> "SymbolWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, codes: np.ndarray) -> None:
        """Append code points of any unsigned type."""
        symbols = self._symbol_of[codes]
        if symbols.max(initial=0) == _NO_SYMBOL:
            self._admit(np.unique(codes[symbols == _NO_SYMBOL]))
            symbols = self._symbol_of[codes]
        self._file.write(symbols.astype(self.dtype).tobytes())
        self.characters += len(codes)

    def _admit(self, codes: np.ndarray) -> None:
        self._symbol_of[codes] = np.arange(len(self.alphabet), len(self.alphabet) + len(codes))
        self.alphabet = np.concatenate([self.alphabet, codes.astype("<u4")])
        needed = np.dtype(np.min_scalar_type(len(self.alphabet) - 1))
        if needed.itemsize > self.dtype.itemsize:
            self._widen(needed)

    def _widen(self, dtype: np.dtype) -> None:
        self._file.close()
        narrow, wide = self.path, self.path.with_suffix(".wide")
        with narrow.open("rb") as source, wide.open("wb") as target:
            while len(block := np.fromfile(source, self.dtype, 1 << 20)):
                target.write(block.astype(dtype).tobytes())
        wide.replace(narrow)
        self.dtype = dtype
        self._file = narrow.open("ab")


def holds_document(corpus: Corpus, text: str) -> bool:
    """Whether `text` is one of the corpus's documents, to the letter."""
    codes = code_points(text)
    order = np.argsort(corpus.alphabet)
    rank = np.minimum(np.searchsorted(corpus.alphabet, codes, sorter=order), len(order) - 1)
    symbols = order[rank]
    if not len(codes) or (corpus.alphabet[symbols] != codes).any():
        return False
    for first in range(0, len(corpus.spans), 1 << 16):
        spans = np.array(corpus.spans[first : first + (1 << 16)])
        candidates = spans[np.diff(spans)[:, 0] == len(codes), 0]
        for offset, symbol in enumerate(symbols):
            candidates = candidates[corpus.symbols[candidates + offset] == symbol]
        if len(candidates):
            return True
    return False


def read_rows(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Some rows, read rather than mapped, so that a pass over a large corpus does not fill memory."""
    if not isinstance(rows, np.memmap) or not rows.filename:
        return np.array(rows[start:stop])
    shape = (stop - start, *rows.shape[1:])
    row_bytes = rows.itemsize * math.prod(rows.shape[1:])
    return np.fromfile(rows.filename, rows.dtype, math.prod(shape), offset=start * row_bytes).reshape(shape)
