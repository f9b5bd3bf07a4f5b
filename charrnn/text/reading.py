"""Files as code points: which files a person means, their content hash, their decoded blocks."""

import codecs
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from charrnn.errors import CorpusError, StorageError
from charrnn.text.vocabulary import code_points

BLOCK_BYTES = 1 << 21
_HEAD_BYTES = 8192
_OF_A_RUN = {"config.json", "vocabulary.json"}
_ASCII_SUPERSETS = {"utf-8", "ascii", "iso8859-1", "cp1252"}


def find_files(sources: Sequence[str | Path], spool_folder: Path, encoding: str = "utf-8") -> list[Path]:
    """The regular files that the sources mean, in a fixed order.

    A folder stands for the text files below it, sorted by path, but for hidden ones, those of runs, and those that
    look binary, with a NUL character near their beginning. `-` is the standard input; it and any pipe are read
    into a file of `spool_folder` first. Raises CorpusError for what does not exist, cannot be read or is no text.
    """
    files: list[Path] = []
    try:
        for source in sources:
            files.extend(_files_of(source, spool_folder, encoding))
    except BaseException:
        remove_spooled(files, spool_folder)
        raise
    return files


def remove_spooled(files: Sequence[Path], spool_folder: Path) -> None:
    """Remove those of the files that were read from a pipe."""
    for path in files:
        if path.parent == spool_folder:
            path.unlink(missing_ok=True)


def _files_of(source: str | Path, spool_folder: Path, encoding: str) -> list[Path]:
    if str(source) == "-":
        return [_spool(sys.stdin.buffer, spool_folder)]  # type: ignore[arg-type] # it is one
    path = Path(source)
    try:
        if path.is_symlink() and not path.exists():
            raise CorpusError(f"{path}: a link to {path.readlink()}, which is not there")
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _text_files_below(path, encoding)
        if stat.S_ISFIFO(mode):
            with path.open("rb") as pipe:
                return [_spool(pipe, spool_folder)]
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return [path]
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file or folder; `charrnn corpora` lists the bundled texts") from None
    except OSError as error:
        raise CorpusError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    raise CorpusError(f"{path}: neither a file nor a folder; give a text file, a folder or - for a pipe")


def _spool(pipe: BufferedIOBase, folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="piped-", suffix=".txt", delete=False) as file:
            try:
                # Not until so many bytes are there, as `read` would: at a terminal that takes a second Ctrl-D.
                for block in iter(lambda: pipe.read1(BLOCK_BYTES), b""):
                    file.write(block)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot keep what comes from the pipe ({error.strerror}); "
            "make room there, or name another folder in CHARRNN_CACHE"
        ) from error
    return Path(file.name)


def _text_files_below(folder: Path, encoding: str) -> list[Path]:
    def refuse(error: OSError) -> None:  # a text that is left out unseen is another text
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        if set(names) >= _OF_A_RUN:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    files = [path for path in sorted(found) if path.is_file() and path.stat().st_size and _is_text(path, encoding)]
    if not files:
        raise CorpusError(f"{folder}: no text files in this folder; give a text file or a folder that holds some")
    return files


def _is_text(path: Path, encoding: str) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        return "\0" not in _decoder(encoding, "replace").decode(head)
    except UnicodeError:  # not even its mark
        return False


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 over the files' lengths and bytes, in order, as hex."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def decoded_blocks(path: Path, encoding: str, errors: str) -> Iterator[np.ndarray]:
    """Yield a file's code points block by block (uint8 where a block is all ASCII, else uint32).

    A byte order mark is dropped. Raises CorpusError with the byte offset where the bytes are not
    text in `encoding` (`errors` "strict"), and for NUL, which no text holds; "replace" turns both
    into U+FFFD, "ignore" leaves both out.
    """
    decoder = _decoder(encoding, errors)
    plain_ascii = codecs.lookup(encoding).name in _ASCII_SUPERSETS
    with path.open("rb") as file:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8") and file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        offset = file.tell()
        while True:
            block = file.read(BLOCK_BYTES)
            if block and plain_ascii and block.isascii() and not decoder.getstate()[0]:
                codes = np.frombuffer(block, np.uint8)
            else:
                codes = code_points(_decode(decoder, block, path, offset, encoding))
            if not offset and len(codes) and codes[0] == 0xFEFF:
                codes = codes[1:]
            if len(codes):
                yield _without_nul(codes, errors, path, offset)
            if not block:
                return
            offset += len(block)


def _decoder(encoding: str, errors: str) -> codecs.IncrementalDecoder:
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError
        return codecs.getincrementaldecoder(encoding)(errors)
    except (LookupError, ValueError):  # ValueError: not even a name
        raise CorpusError(f"--encoding {encoding}: no such text encoding; try utf-8, latin-1 or utf-16") from None


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, path: Path, offset: int, encoding: str) -> str:
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        at = offset - (len(error.object) - len(block)) + error.start
        bad = error.object[error.start]
    except UnicodeError as error:
        raise CorpusError(f"{path}: not {encoding} text ({error}); give its --encoding") from error
    if at == 0 and bad in (0xFF, 0xFE):
        raise CorpusError(f"{path}: this looks like UTF-16; give --encoding utf-16")
    advice = "give the right --encoding (latin-1 takes any byte), or mend it with --errors replace"
    raise CorpusError(f"{path}: not valid {encoding} at byte {at} (0x{bad:02x}); {advice}")


def _without_nul(codes: np.ndarray, errors: str, path: Path, offset: int) -> np.ndarray:
    nul = codes == 0
    if not nul.any():
        return codes
    if errors == "ignore":
        return codes[~nul]
    if errors == "replace":
        return np.where(nul, np.uint32(0xFFFD), codes.astype(np.uint32))
    raise CorpusError(f"{path}: a NUL character near byte {offset + int(nul.argmax())}; {_advice_on_nul(nul)}")


def _advice_on_nul(nul: np.ndarray) -> str:
    """What a text with NUL characters may be: in UTF-16 nearly every other byte of Latin letters is one."""
    for encoding, zeros, letters in (("utf-16-le", nul[1::2], nul[::2]), ("utf-16-be", nul[::2], nul[1::2])):
        if len(zeros) and zeros.mean() > 0.5 and letters.mean() < 0.1:
            return f"this looks like UTF-16 without its mark; give --encoding {encoding}"
    return "it looks binary. If it is UTF-16, give --encoding utf-16; else mend the bytes with --errors replace"
