"""Files as code points: encodings, what is refused and where, which files are meant."""

import codecs
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.errors import CorpusError
from charrnn.text import reading
from charrnn.text.reading import content_hash, decoded_blocks, find_files

texts = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"], exclude_characters="\ufeff"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write to."""
    return tmp_path_factory.mktemp("reading") / "text.txt"


def read(file: Path, content: bytes, encoding: str = "utf-8", errors: str = "strict", block: int = 1 << 21) -> str:
    """All of a file's text, read in blocks of `block` bytes."""
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK_BYTES", block)
        blocks = list(decoded_blocks(file, encoding, errors))
    assert all(codes.dtype in (np.uint8, np.uint32) for codes in blocks)
    return "".join(map(chr, np.concatenate([*blocks, np.zeros(0, np.uint8)])))


@given(texts, st.sampled_from(["utf-8", "UTF_8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"]),
       st.integers(1, 12))  # fmt: skip
def test_text_comes_back_whatever_the_block(file: Path, text: str, encoding: str, block: int) -> None:
    assert read(file, text.encode(encoding), encoding, block=block) == text


@given(st.binary(max_size=40), st.sampled_from(["replace", "ignore"]), st.integers(1, 9))
def test_mending_is_pythons_own(file: Path, content: bytes, errors: str, block: int) -> None:
    expected = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    expected = expected.replace("\0", "\N{REPLACEMENT CHARACTER}" if errors == "replace" else "")
    assert read(file, content, errors=errors, block=block) == expected


@given(st.binary(min_size=1, max_size=40).map(lambda content: content.replace(b"\0", b"")), st.integers(1, 9))
def test_invalid_bytes_are_found_where_python_finds_them(file: Path, content: bytes, block: int) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        looks_like_utf_16 = error.start == 0 and content[0] in (0xFE, 0xFF)
        expected = "UTF-16" if looks_like_utf_16 else rf"at byte {error.start} \(0x{content[error.start]:02x}\)"
        with pytest.raises(CorpusError, match=expected):
            read(file, content, block=block)


@pytest.mark.parametrize("before", [0, 1, 100, (1 << 21) - 1, 1 << 21, (1 << 22) + 5])
@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8])
def test_invalid_bytes_past_the_first_block(file: Path, before: int, bom: bytes) -> None:
    at = len(bom) + before
    with pytest.raises(CorpusError, match=rf"text.txt: not valid utf-8 at byte {at} \(0xe9\); .*--encoding .*replace"):
        read(file, bom + b"x" * before + b"\xe9 " + b"y" * 9)


def test_a_cut_character_at_the_end_is_found(file: Path) -> None:
    with pytest.raises(CorpusError, match="at byte 2 "):
        read(file, "ab水".encode()[:-1])


@pytest.mark.parametrize("content", [codecs.BOM_UTF16_LE + b"a\0b\0", codecs.BOM_UTF16_BE + b"\0a\0b"])
def test_utf_16_is_recognised(file: Path, content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"looks like UTF-16; give --encoding utf-16"):
        read(file, content)
    assert read(file, content, "utf-16") == "ab"


def test_byte_order_mark_is_dropped_once(file: Path) -> None:
    assert read(file, codecs.BOM_UTF8 + "a\ufeffb".encode()) == "a\ufeffb"
    assert read(file, codecs.BOM_UTF8 + b"ab", "utf8", block=1) == "ab"
    assert read(file, codecs.BOM_UTF8) == ""


def test_nul_is_refused_or_mended(file: Path) -> None:
    with pytest.raises(CorpusError, match=r"a NUL character near byte 2; .*utf-16.*replace"):
        read(file, b"ab\0c")
    with pytest.raises(CorpusError, match=r"near byte 9; "):
        read(file, b"abcdefghi\0c", block=4)
    assert read(file, b"ab\0c", errors="replace") == "ab\ufffdc"
    assert read(file, b"ab\0c", errors="ignore") == "abc"


def test_any_byte_is_latin_1_and_line_ends_stay(file: Path) -> None:
    content = bytes(range(1, 256)) + b"\r\n\r"
    assert read(file, content, "latin-1", block=7) == content.decode("latin-1")


@pytest.mark.parametrize("encoding", ["nonsense", "rot13", "hex", "base64", "utf-8\0"])
def test_what_is_no_text_encoding_is_refused(file: Path, encoding: str) -> None:
    with pytest.raises(CorpusError, match="no such text encoding"):
        read(file, b"ab", encoding)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [("ascii", b"caf\xe9"), ("utf-16", b"a\0b\0\0\xd8"), ("gbk", b"a\xff"), ("utf-32", b"abc"), ("undefined", b"a")],
)
def test_bytes_that_are_not_of_their_encoding(file: Path, encoding: str, content: bytes) -> None:
    with pytest.raises(CorpusError, match=f"not (valid )?{encoding} .*--encoding"):
        read(file, content, encoding)


def test_hash_tells_contents_and_their_cut_apart(tmp_path: Path) -> None:
    for name, content in {"a": b"ab", "b": b"c", "c": b"a", "d": b"bc", "e": b"ab"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert content_hash([a, b]) == content_hash([e, b])
    assert len({content_hash(files) for files in ([a, b], [c, d], [b, a], [a], [a, e], [])}) == 6


def test_what_cannot_be_read_in_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt"):
        (tmp_path / name).write_text("text")
    real_open, real_scan = Path.open, os.scandir

    def refuse(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any) -> Any:
            if str(path).endswith(name):  # root may read anything, so the mode of a file would not do
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *rest)

        return call

    for name, replaced, call in (("b.txt", (Path, "open"), real_open), ("/sub", (os, "scandir"), real_scan)):
        with monkeypatch.context() as patch, pytest.raises(CorpusError) as told:
            patch.setattr(*replaced, refuse(name, call))
            find_files([tmp_path], tmp_path)
        assert name in str(told.value) and "cannot be read (Permission denied)" in str(told.value)


def test_a_folder_is_its_text_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    for name, content in {"b.txt": b"b", "a.md": b"a", "sub/c": b"c", ".git": b"x", "sub/.hidden/d": b"d",
                          "empty": b"", "picture": b"\x89PNG\0\0"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert find_files([tmp_path], tmp_path) == [tmp_path / name for name in ("a.md", "b.txt", "sub/c")]
    assert find_files([tmp_path / "b.txt", str(tmp_path / "sub")], tmp_path) == [tmp_path / "b.txt", tmp_path / "sub/c"]


def test_runs_in_a_folder_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "run" / "steps" / "5").mkdir(parents=True)
    for name in ("a.txt", "config.json", "checkpoints/run/config.json", "checkpoints/run/vocabulary.json",
                 "checkpoints/run/metrics.jsonl", "checkpoints/run/steps/5/progress.json"):  # fmt: skip
        (tmp_path / name).write_text("{}")
    assert find_files([tmp_path], tmp_path) == [tmp_path / "a.txt", tmp_path / "config.json"]


def test_a_folder_of_utf_16(tmp_path: Path) -> None:
    for name, content in {"a": "plain".encode("utf-16"), "b": "no mark".encode("utf-16-le"),
                          "c": "a\0b".encode("utf-16"), "d": "水".encode("utf-16")}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    assert find_files([tmp_path], tmp_path, "utf-16") == [tmp_path / "a", tmp_path / "d"]
    assert find_files([tmp_path], tmp_path, "utf-16-le") == [tmp_path / name for name in "abd"]


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "binary").write_bytes(b"\0")
    (tmp_path / "file").write_bytes(b"text")
    refused = {"none": "no such file or folder", "folder": "no text files in this folder",
               "file/x": "cannot be read", "/dev/null": "neither a file"}  # fmt: skip
    for source, message in refused.items():
        with pytest.raises(CorpusError, match=message):
            find_files([tmp_path / source], tmp_path)


def test_standard_input_and_pipes_are_spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("piped 水".encode())))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"from a pipe",))
    writer.start()
    files = find_files(["-", pipe], tmp_path / "spool")
    writer.join()
    assert [file.read_text("utf-8") for file in files] == ["piped 水", "from a pipe"]
    assert all(file.parent == tmp_path / "spool" for file in files)
