"""Whatever a person feeds the program, they get an answer in plain words: one line and an exit code."""

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from person import FAST, RHYME, run

import charrnn
from charrnn.checkpoint import RunFolder
from charrnn.config import ModelConfig, TrainingConfig
from charrnn.errors import CharrnnError, CorpusError, TrainingError
from charrnn.text.corpus import prepare
from charrnn.text.selection import split, vocabulary_of
from charrnn.trainer import start
from charrnn.training import loop, memory
from charrnn.training.recipe import resolve

pytestmark = pytest.mark.usefixtures("promotion", "place")

TEXT = RHYME * 20
CORPORA: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 2, "text.txt: empty; give a text"),
    ("one character", b"a", 2, "too few to hold"),
    ("shorter than a window", b"ten letter" + b"abc" * 2, 0, ""),
    ("one distinct character", b"a" * 500, 0, ""),
    ("invalid UTF-8", TEXT.encode() + b"\xff" + TEXT.encode(), 2, f"not valid utf-8 at byte {len(TEXT)} (0xff)"),
    ("UTF-16 with its mark", TEXT.encode("utf-16"), 2, "looks like UTF-16; give --encoding utf-16"),
    ("UTF-16 little-endian without", TEXT.encode("utf-16-le"), 2, "give --encoding utf-16-le"),
    ("UTF-16 big-endian without", TEXT.encode("utf-16-be"), 2, "give --encoding utf-16-be"),
    ("Latin-1", ("caf\xe9 " * 99).encode("latin-1"), 2, "at byte 3 (0xe9); give the right --encoding (latin-1"),
    ("NUL bytes", b"abc\0def" * 90, 2, "a NUL character near byte 3; it looks binary"),
    ("binary", bytes(range(1, 256)) * 9, 2, "not valid utf-8 at byte 127 (0x80)"),
    ("byte order mark", b"\xef\xbb\xbf" + TEXT.encode(), 0, ""),
    ("carriage returns and newlines", TEXT.replace("\n", "\r\n").encode(), 0, ""),
    ("carriage returns", TEXT.replace("\n", "\r").encode(), 0, ""),
    ("a surrogate in UTF-8", b"abc\xed\xa0\x80" * 90, 2, "not valid utf-8 at byte 3 (0xed)"),
]


@pytest.mark.parametrize(("content", "code", "message"), [row[1:] for row in CORPORA], ids=[row[0] for row in CORPORA])
def test_corpora(place: Path, content: bytes, code: int, message: str) -> None:
    (place / "text.txt").write_bytes(content)
    if not code:  # taken as it is; what it learns is another test's business
        job = start(("text.txt",), seq_length=4, batch_size=1, steps=1)
        assert job.corpus.characters == len(content.decode("utf-8-sig"))
        return job.lock.release()
    found, said = run("train", "text.txt", *FAST)
    assert (found, message in said, said.count("\n")) == (code, True, 1), said
    assert "text.txt: " in said or "--val-fraction" in said
    return None


def test_a_text_shorter_than_a_window(place: Path) -> None:
    (place / "text.txt").write_text("a short text")
    assert run("train", "text.txt") == (2, "Error: the training part holds 10 characters, fewer than one window of 64; "
                                           "give more text or a smaller --seq-length\n")  # fmt: skip


def test_things_that_are_no_text_files(place: Path) -> None:
    (place / "folder").mkdir()
    (place / "link").symlink_to("nowhere")
    (place / "rhyme.txt").write_text(TEXT)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    os.mkfifo("pipe")
    writer = threading.Thread(target=(place / "pipe").write_text, args=(TEXT,))
    rows = {
        "folder": "folder: no text files in this folder", "link": "link: a link to nowhere, which is not there",
        "socket": "socket: neither a file nor a folder", "nowhere": "nowhere: no such file or folder",
        "rhyme.txt/x": "rhyme.txt/x: cannot be read (Not a dir", "x" * 300: "cannot be read (File name too long)",
        "/dev/null": "/dev/null: neither a file nor a folder",
    }  # fmt: skip
    for source, message in rows.items():
        code, said = run("train", source, *FAST)
        assert code == 2 and message in said and said.count("\n") == 1, said
    listener.close()
    assert not (place / "checkpoints").exists()
    writer.start()
    job = start(("pipe",), steps=1)
    writer.join()
    job.lock.release()
    assert job.corpus.characters == len(TEXT)
    assert run("train", "-", *FAST, stdin=b"")[0] == 2


def test_sizes_and_alphabets(place: Path) -> None:
    rows = {
        "one line of 100 MB": ("x" * 63 + "y") * (100_000_000 // 64), "a million lines": "a\n" * 1_000_000,
        "an alphabet of 100,000": "".join(chr(0x10000 + k) for k in range(100_000)) * 2,
    }  # fmt: skip
    for name, text in rows.items():
        (place / "text.txt").write_text(text, "utf-8")
        corpus = prepare(["text.txt"], cache=place / "cache")
        parts = split(corpus, 0.1, 0)
        vocabulary = vocabulary_of(parts.train)
        model, training = resolve(ModelConfig(), TrainingConfig(), parts.train.positions, parts.validation.positions,
                                  vocabulary.size)  # fmt: skip
        assert model.hidden_size and training.batch_size, name
        assert vocabulary.size - 2 == (min(len(set(text)), 100_000) if "lines" not in name else 1)


def test_a_text_that_changes_while_it_is_read(place: Path) -> None:
    (place / "text.txt").write_text(TEXT)

    def change(done: int, total: int) -> None:
        (place / "text.txt").write_text(TEXT + "more")

    with pytest.raises(CorpusError, match=r"text.txt: it changed while it was read; try again"):
        prepare(["text.txt"], documents="file", cache=place / "cache", progress=change)
    assert not [path for path in (place / "cache" / "corpora").iterdir() if path.name != "piped"]


OPTIONS: list[tuple[tuple[str, ...], str]] = [
    (("--hidden", "0"), "--hidden must be at least 1"), (("--hidden", "99999999"), "--hidden must be at most 65,536"),
    (("--hidden", "x"), "'x' is not a valid integer"), (("--layers", "0"), "--layers must be at least 1"),
    (("--layers", "65"), "--layers must be at most 64"), (("--dropout", "1"), "--dropout must be less than 1"),
    (("--dropout", "-0.1"), "--dropout must be at least 0"), (("--learning-rate", "0"), "must be greater than 0"),
    (("--learning-rate", "100"), "--learning-rate must be at most 10.0, not 100"),
    (("--learning-rate", "inf"), "must be a finite number"), (("--minutes", "nan"), "must be a finite number"),
    (("--steps", "0"), "--steps must be at least 1"), (("--epochs", "0"), "--epochs must be greater than 0"),
    (("--seed", "-1"), "--seed must be at least 0"), (("--val-fraction", "1"), "must be less than 1"),
    (("--encoding", "klingon"), "no such text encoding"), (("--documents", ""), "must be file, line"),
    (("--residual",), "--residual needs --layers 2"), (("--variational", "--dropout", "0"), "must be above 0"),
    (("--cell", "rnn", "--forget-bias", "1"), "does nothing for --cell rnn"), (("--resume", "--new"), "give one of"),
    (("--min-count", "100000"), "lower --min-count"), (("--patience", "-1"), "--patience must be at least 0"),
    (("--run", "../up"), "one folder name"), (("--run", "x" * 300), "too long"), (("--run", ""), "one folder name"),
    (("--run", ".hidden"), "one folder name"), (("--checkpoints", "rhyme.txt"), "is a file"),
    (("--steps", "9" * 99), "--steps must be at most 2,147,483,647"),
    (("--epochs", "1e308"), "--epochs must be at most"), (("--minutes", "1e308"), "--minutes must be at most"),
    (("--size", "tiny", "--hidden", "9"), "--size tiny is a width, and so is --hidden"),
    (("--optimizer", "sgd", "--weight-decay", "0.1"), "--weight-decay does nothing for --optimizer sgd"),
    (("--hidden", "65536", "--layers", "64", "--batch-size", "99999"), "not enough memory for a training step"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[" ".join(row[0])[:40] for row in OPTIONS])
def test_options_at_and_beyond_their_bounds(place: Path, options: tuple[str, ...], message: str) -> None:
    (place / "rhyme.txt").write_text(TEXT)
    code, said = run("train", "rhyme.txt", "--quiet", *options)
    assert (code, message in said) == (1 if "memory" in message else 2, True), said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["with spaces", "\N{SNOWMAN} \U0001f600", "-dash", "x" * 100, "a:b*?"])
def test_names_that_a_folder_may_have(place: Path, name: str) -> None:
    (place / "rhyme.txt").write_text(TEXT)
    assert run("train", "rhyme.txt", *FAST, f"--run={name}")[0] == 0
    assert (place / "checkpoints" / name / "model.safetensors").exists()
    assert run("sample", "--length", "5", "--", name)[0] == 0
    assert run("runs")[0] == 0 and run("show", "--", name)[0] == 0


PROMPTS = ["", "the \N{SNOWMAN}", "a\nb", "\u05e9\u05dc\u05d5\u05dd", "e\u0301\u0323", "\U0001f468\u200d\U0001f469",
           "\ud800", "\0", "\x1b[2J", "the cat " * 2000]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: ascii(prompt)[:20])
def test_prompts(trained: Path, prompt: str) -> None:
    model = charrnn.load("rhyme", trained / "checkpoints")
    drawn = model.sample(prompt, length=5, seed=1)[0]
    assert drawn.prompt == prompt and len(drawn.text) <= 5
    assert model.unknown(prompt) == [character for character in dict.fromkeys(prompt) if character not in TEXT]
    assert np.isfinite(model.score(prompt).nats)
    if "\ud800" not in prompt and "\0" not in prompt:
        code, said = run("sample", "rhyme", "--checkpoints", str(trained / "checkpoints"), "--length", "5",
                         f"--prompt={prompt}")  # fmt: skip
        assert code == 0 and ("never saw" in said) == bool(model.unknown(prompt))


METRICS = [
    "{}", "[]", "{nonsense", '{"event": []}', '{"event": "validation"}', '{"event": "train", "loss": "low", "step": 1}',
    '{"event": "validation", "step": 1, "nats": "few", "elapsed": 1}', '{"event": "train", "step": "x"}',
    '{"event": "validation", "step": 1, "nats": 1, "elapsed": 1, "temperature": "hot"}',
    '{"event": "validation", "step": 1, "nats": NaN, "elapsed": 1}', '{"event": "test", "nats": 1' + "0" * 400 + "}",
]  # fmt: skip


def test_metrics_that_somebody_wrote_into_are_left_out(trained: Path, place: Path) -> None:
    shutil.copytree(trained / "checkpoints" / "rhyme", place / "checkpoints" / "rhyme")
    folder = RunFolder(place / "checkpoints" / "rhyme")
    whole = folder.metrics()
    assert whole
    with folder.metrics_path.open("a") as file:
        file.writelines(line + "\n" for line in METRICS)
    assert folder.metrics() == whole
    assert run("runs")[0] == run("show")[0] == run("show", "--json")[0] == 0


def test_a_folder_that_may_not_be_written_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "rhyme.txt").write_text(TEXT)
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode)
    )  # root may write anywhere
    code, said = run("train", "rhyme.txt", *FAST)
    assert code == 1 and "checkpoints: " in said and "may not be written to" in said and "--checkpoints DIR" in said


def test_no_memory_for_a_batch_names_one_that_fits(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "rhyme.txt").write_text(TEXT)

    def exhausted(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore")

    assert run("train", "rhyme.txt", "--hidden", "65536", "--layers", "64", "--batch-size", "99999")[0] == 1
    assert not (place / "checkpoints").exists()  # nothing was begun
    monkeypatch.setattr(loop, "train_steps", exhausted)
    job = start(("rhyme.txt",), hidden_size=8, seq_length=8, batch_size=16, steps=5)
    monkeypatch.setattr(memory, "available_memory", lambda: int(memory.needed_memory(job.task, 4) / 0.85))
    with pytest.raises(TrainingError, match=r"not enough memory for .*; --batch-size 4 would fit") as told:
        list(job.events())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("call", [
    lambda model: model.sample(temperature=float("nan")), lambda model: model.sample(n=-1),
    lambda model: model.sample(nonsense=1), lambda model: model.sample(length=-5),
    lambda model: charrnn.load("nosuch"), lambda model: charrnn.train("nosuch"),
    lambda model: charrnn.train([]), lambda model: charrnn.train("nosuch", hidden_size="wide"),
])  # fmt: skip
def test_the_python_api_raises_what_can_be_caught(trained: Path, call: Callable[[Any], Any]) -> None:
    with pytest.raises(CharrnnError) as told:
        call(charrnn.load("rhyme", trained / "checkpoints"))
    assert "\n" not in str(told.value)
