"""Whatever a person feeds the program, they get an answer in plain words: one line and an exit code."""

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import charrnn
from charrnn.checkpoint import RunFolder
from charrnn.cli.main import cli
from charrnn.config import ModelConfig, TrainingConfig
from charrnn.errors import CharrnnError, CorpusError, TrainingError
from charrnn.text.corpus import prepare
from charrnn.text.selection import split, vocabulary_of
from charrnn.trainer import start
from charrnn.training import loop, memory
from charrnn.training.recipe import resolve

RHYME = "the cat sat on the mat and the dog sat on the log.\n"
FAST = ("--hidden", "8", "--seq-length", "8", "--batch-size", "2", "--steps", "2", "--precision", "float32",
        "--dropout", "0", "--embedding", "0", "--quiet")  # fmt: skip


@pytest.fixture(autouse=True)
def promotion() -> Iterator[None]:
    """Optax's bias correction raises a Python float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the program runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small run, `rhyme`."""
    place = tmp_path_factory.mktemp("trained")
    (place / "rhyme.txt").write_text(RHYME * 20)
    (place / "other.txt").write_text(RHYME * 21)
    (place / "folder").mkdir()
    (place / "dangling").symlink_to("nowhere")
    for name, content in {"empty": b"", "latin": b"caf\xe9 " * 99, "utf-16": RHYME.encode("utf-16"), "nul": b"a\0b",
                          "latin.safetensors": b"caf\xe9 " * 99}.items():  # fmt: skip
        (place / name).write_bytes(content)
    with jax.numpy_dtype_promotion("standard"):
        charrnn.train(place / "rhyme.txt", checkpoints=place / "checkpoints", hidden_size=8, seq_length=8, batch_size=2,
                      steps=2, sample_every=0, precision="float32", dropout=0.0, embedding_size=0)  # fmt: skip
    return place


def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """The program's exit code and what it said on the standard error."""
    done = CliRunner().invoke(cli, arguments, input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr


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


SAMPLING: list[tuple[tuple[str, ...], str]] = [
    (("--temp", "-1"), "--temp must be at least 0"), (("--temp", "nan"), "finite"), (("--top-p", "0"), "greater"),
    (("--top-p", "1.1"), "at most 1"), (("--length", "-1"), "at least 0"), (("--n", "-1"), "0"),
    (("--top-k", "-1"), "at least 0"), (("nosuch",), "no run called nosuch"), (("x" * 300,), "no run called"),
    (("--checkpoints", "nowhere"), "no runs in nowhere yet"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), SAMPLING, ids=[" ".join(row[0])[:40] for row in SAMPLING])
def test_sampling_used_wrongly(options: tuple[str, ...], message: str) -> None:
    for command in ("sample", "complete"):
        if command == "complete" and "--n" in options:
            continue
        code, said = run(command, *options)
        assert (code, message in said, "Traceback" in said) == (2, True, False), said


EVERY: list[tuple[tuple[str, ...], int, str]] = [
    (("score", "rhyme", "empty"), 2, "empty: empty; give a text"),
    (("score", "rhyme", "latin"), 2, "latin: not valid utf-8 at byte 3 (0xe9); give the right --encoding"),
    (("score", "rhyme", "utf-16"), 2, "utf-16: this looks like UTF-16; give --encoding utf-16"),
    (("score", "rhyme", "nul"), 2, "nul: a NUL character near byte 1"),
    (("score", "rhyme", "dangling"), 2, "dangling: a link to nowhere, which is not there"),
    (("score", "rhyme", "folder"), 2, "folder: no text files in this folder"),
    (("score", "rhyme", "latin", "--encoding", "klingon"), 2, "--encoding klingon: no such text encoding"),
    (("score", "nowhere"), 2, "nowhere: neither a file nor a run"),
    (("score", "nosuch", "rhyme.txt"), 2, "no run called nosuch"),
    (("score", "rhyme", "rhyme.txt", "--compare", "a", "b"), 2, "--compare takes its two texts and nothing else"),
    (("score", "rhyme", "--part", "test"), 2, "kept no text back for a test"),
    (("score", "rhyme", "rhyme.txt", "--top", "3"), 2, "--top is for --by line"),
    (("score", "rhyme", "rhyme.txt", "--streams", "0"), 2, "not in the range"),
    (("score", "rhyme", "rhyme.txt", "--html", "folder/../rhyme.txt"), 2, "this is the text itself"),
    (("score", "rhyme", "rhyme.txt", "--dynamic", "--dynamic-rate", "nan"), 2, "--dynamic-rate must be a finite"),
    (("score", "rhyme", "rhyme.txt", "--html", "folder/no/page.html"), 2, "cannot be written (No such file"),
    (("sample", "rhyme", "--prompt-file", "latin"), 2, "--prompt-file latin: not valid UTF-8 at byte 3"),
    (("sample", "rhyme", "--prompt-file", "folder"), 2, "--prompt-file folder: cannot be read (Is a directory)"),
    (("sample", "rhyme", "--prompt-file", "nowhere"), 2, "--prompt-file nowhere: cannot be read (No such file"),
    (("sample", "rhyme", "--prompt", "a", "--prompt-file", "rhyme.txt"), 2, "give --prompt or --prompt-file"),
    (("sample", "rhyme", "--beam", "2", "--temp", "1"), 2, "leave --temp out"),
    (("sample", "rhyme", "--beam", "2", "--greedy"), 2, "leave --greedy out"),
    (("sample", "rhyme", "--beam", "2", "--unique"), 2, "leave --unique out"),
    (("sample", "rhyme", "--beam", "2", "--novel"), 2, "leave --novel out"),
    (("sample", "rhyme", "--greedy", "--temp", "1"), 2, "--greedy is --temp 0: give one of them"),
    (("sample", "rhyme", "--length", "5", "--out", "/dev/full"), 1, "--out /dev/full: cannot be written (No space"),
    (("sample", "rhyme", "--regex", "("), 2, "--regex"),
    (("sample", "rhyme", "--allow", ""), 2, "--allow needs some characters"),
    (("sample", "rhyme", "--out", "folder/no/text"), 2, "--out folder/no/text: cannot be written (No such file"),
    (("sample", "rhyme.txt"), 2, "no run called rhyme.txt"),
    (("sample", "", "--length", "5"), 2, "no run called"),
    (("sample", "latin.safetensors"), 1, "latin.safetensors: not a model of charrnn"),
    (("complete", "nosuch"), 2, "no run called nosuch in checkpoints; there are: rhyme"),
    (("complete", "rhyme", "--length", "-1"), 2, "--length must be at least 0"),
    (("next", "a", "--run", "nosuch"), 2, "no run called nosuch"),
    (("next", "a", "--top", "0"), 2, "not in the range"),
    (("next", "a", "--temp", "nan"), 2, "--temp must be a finite number"),
    (("write", "rhyme"), 2, "needs a terminal to type in"),
    (("show", "nosuch"), 2, "no run called nosuch"),
    (("show", "checkpoints/rhyme/model.safetensors"), 2, "`show` wants a run folder"),
    (("show", "../../etc"), 2, "no run called ../../etc"),
    (("runs", "--checkpoints", "rhyme.txt"), 2, "is a file"),
    (("bench", "gradients", "--hidden", "0"), 2, "not in the range"),
    (("bench", "gradients", "--run", "nosuch"), 2, "no run called nosuch"),
    (("bench", "gradients", "--plot", "picture.nosuch"), 2, "--plot"),
    (("train",), 2, "give a text to learn"),
    (("train", "--resume", "--run", "nosuch"), 2, "no run called nosuch"),
    (("train", "nowhere", "--resume"), 2, "no run of nowhere in checkpoints to resume"),
    (("train", "--resume", "--run", "rhyme", "--hidden", "9"), 2, "--hidden is 8 in this run and cannot change"),
    (("train", "--resume", "--run", "rhyme", "--init-from", "rhyme"), 2, "leave --init-from out"),
    (("train", "rhyme.txt", "--run", "rhyme"), 2, "checkpoints/rhyme exists; give --resume"),
    (("train", "rhyme.txt", "--init-from", "nosuch"), 2, "no run called nosuch"),
    (("train", "latin", "--resume", "--run", "rhyme"), 2, "latin: not valid utf-8 at byte 3"),
    (("train", "other.txt", "--resume", "--run", "rhyme"), 2, "not the one that run rhyme learnt"),
    (("train", "checkpoints/rhyme/model.safetensors", "--new"), 2, "model.safetensors: "),
    (("train", "--resume", "--run", "checkpoints/rhyme/model.safetensors"), 2, "one folder name"),
    (("nosuch",), 2, "No such command"), (("train", "--nosuch"), 2, "No such option"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "message"), EVERY, ids=[" ".join(row[0])[:50] for row in EVERY])
def test_every_command_used_wrongly(
    trained: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(trained)
    before, text = sorted(trained.rglob("*")), (trained / "rhyme.txt").read_bytes()
    found, said = run(*arguments)
    assert (found, message in said, "Traceback" in said) == (code, True, False), said
    assert said.rstrip().rpartition("\n")[2].startswith("Error: ")
    assert sorted(trained.rglob("*")) == before  # nothing is begun, nothing is left
    assert (trained / "rhyme.txt").read_bytes() == text


METRICS = [
    "{}", "[]", "{nonsense", '{"event": []}', '{"event": "validation"}', '{"event": "train", "loss": "low", "step": 1}',
    '{"event": "validation", "step": 1, "nats": "few", "elapsed": 1}', '{"event": "train", "step": "x"}',
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
