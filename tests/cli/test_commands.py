"""The program as a person runs it: processes where they, their streams or signals matter; else in this process."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from click.testing import CliRunner, Result

from charrnn.__main__ import main
from charrnn.cli.main import cli

RHYME = "the cat sat on the mat and the dog sat on the log.\n"
NAMES = "".join(
    f"{a}{b}{c}\n" for a in ("ka", "mo", "li", "ta", "se") for b in ("ra", "no", "vi", "lu") for c in "nsrm" * 2
)
# Optax raises a Python float to an int32 power, which the strict promotion of the unit tests refuses.
OPTAX_PROMOTION = {"JAX_NUMPY_DTYPE_PROMOTION": "standard"}
# The dropout is given, since the recipe's differs with the budget and each is another program to compile.
FAST = ("--hidden", "16", "--seq-length", "16", "--batch-size", "4", "--dropout", "0.1", "--weight-drop", "0.1")
TINY = (*FAST, "--steps", "2", "--sample-every", "0")

Run = Callable[..., Result]


def process(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as a process."""
    settings = {**os.environ, **OPTAX_PROMOTION, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "charrnn", *arguments],
        input=stdin, capture_output=True, text=True, encoding="utf-8", cwd=cwd, env=settings, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def charrnn() -> Iterator[Run]:
    """Run a command in this process, in a folder."""

    def run(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Result:
        with contextlib.chdir(cwd), jax.numpy_dtype_promotion("standard"):
            return CliRunner().invoke(cli, arguments, input=stdin, env={"COLUMNS": "80", **environment})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charrnn.training.devices.keep_compiled_programs", lambda: None)
        yield run


class Place(NamedTuple):
    """A folder with two trained runs: `rhyme` (one document) and `people` (a document a line).

    talk: what was said while each was trained.
    """

    folder: Path
    talk: dict[str, str]


@pytest.fixture(scope="module")
def trained(charrnn: Run, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The runs, one trained by a process and one in this."""
    folder, settings = tmp_path_factory.mktemp("place"), (*FAST, "--steps", "150", "--eval-every", "75")
    (folder / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    (folder / "names.txt").write_text(NAMES, "utf-8")
    rhyme = process("train", "rhyme.txt", *settings, cwd=folder)
    assert (rhyme.returncode, rhyme.stdout) == (0, ""), rhyme.stderr
    gru = ("--run", "people", "--cell", "gru", "--sample-every", "0")
    people = charrnn("train", "names.txt", *gru, *settings, cwd=folder)
    assert (people.exit_code, people.stdout) == (0, ""), people.stderr
    return Place(folder, {"rhyme": rhyme.stderr, "people": people.stderr})


@pytest.fixture
def place(trained: Place) -> Path:
    """The folder of the trained runs."""
    return trained.folder


@pytest.mark.parametrize(("run", "document"), [("rhyme", "file"), ("people", "line")])
def test_training_says_what_it_did(trained: Place, run: str, document: str) -> None:
    talk = trained.talk[run]
    assert f"each {document} is a document" in talk
    assert re.search(rf"checkpoints/{run}: \d\.\d+ bits per character", talk)
    assert f"Draw text with: charrnn sample {run}" in talk
    files = {path.name for path in (trained.folder / "checkpoints" / run).iterdir()}
    assert files == {"config.json", "vocabulary.json", "metrics.jsonl", "model.safetensors", "steps", ".lock"}


def test_line_documents_are_found_and_new_names_counted(charrnn: Run, place: Path) -> None:
    done = charrnn("sample", "people", "--n", "20", "--seed", "3", cwd=place)
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20
    assert re.search(r"\d+ of 20 are new", done.stderr)


def test_samples_are_repeatable_and_streamed_as_drawn(charrnn: Run, place: Path) -> None:
    command = ("sample", "rhyme", "--seed", "5", "--length", "99")
    first, again = process(*command, cwd=place), charrnn(*command, cwd=place)
    assert (first.returncode, first.stdout) == (0, again.stdout)
    drawn = charrnn(*command, "--json", cwd=place)
    assert json.loads(drawn.stdout)["text"] == first.stdout[:99]
    assert json.loads(drawn.stdout)["ended"] == "length"
    stopped = charrnn(*command, "--stop", "at", cwd=place)
    assert stopped.stdout.rstrip("\n") == first.stdout.split("at")[0].rstrip("\n")


def test_a_character_never_seen_is_named(charrnn: Run, place: Path) -> None:
    # An end of the text is unlikely and still possible: without --ignore-eos the text may be short.
    done = charrnn("sample", "rhyme", "--prompt", "the ☃at", "--length", "20", "--ignore-eos", cwd=place)
    assert done.exit_code == 0
    assert "never saw '☃'" in done.stderr
    assert len(done.stdout.strip("\n")) >= len("the ☃at") + 15
    assert "\N{REPLACEMENT CHARACTER}" not in done.stdout


def test_weights_travel_alone(charrnn: Run, place: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((place / "checkpoints" / "rhyme" / "model.safetensors").read_bytes())
    done = charrnn("sample", str(weights), "--greedy", "--length", "30", cwd=tmp_path)
    assert done.exit_code == 0 and len(done.stdout) == 31


def test_complete_takes_piped_lines(charrnn: Run, place: Path) -> None:
    piped = "/set temp 0\n/set length 10\nthe c\n/set\n/bye\nnot read\n"
    done = charrnn("complete", "rhyme", cwd=place, stdin=piped)
    assert done.exit_code == 0, done.stderr
    assert re.fullmatch(r"the c.{10}\n", done.stdout, re.DOTALL)
    assert "temp is now 0" in done.stderr and "top_k" in done.stderr


def test_runs_and_show(charrnn: Run, place: Path) -> None:
    listed = [json.loads(line) for line in charrnn("runs", "--json", cwd=place).stdout.splitlines()]
    assert {"rhyme", "people"} <= {run["run"] for run in listed}
    assert all(run["bits_per_character"] > 0 for run in listed)
    steps = next(run["steps"] for run in listed if run["run"] == "rhyme")
    assert "rhyme" in charrnn("runs", cwd=place).stdout
    narrow = charrnn("runs", cwd=place, COLUMNS="40").stdout
    assert re.search(r"^rhyme +\d\.\d+ +lstm 1x16 +\d+$", narrow, re.MULTILINE) and "corpus" not in narrow
    shown = charrnn("show", "rhyme", cwd=place).stdout
    assert "best" in shown and "bits per character" in shown and "--hidden 16" in shown
    assert re.search(rf"^time +\d\S*, {steps} steps$", shown, re.MULTILINE)
    assert json.loads(charrnn("show", "rhyme", "--json", cwd=place).stdout)["config"]["model"]["cell"] == "lstm"
    assert json.loads(charrnn("show", "people", "--json", cwd=place).stdout)["config"]["model"]["cell"] == "gru"


def test_a_broken_run_does_not_hide_the_others(charrnn: Run, place: Path, tmp_path: Path) -> None:
    for name, config in (("good", (place / "checkpoints" / "rhyme" / "config.json").read_text()), ("broken", "{")):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "config.json").write_text(config)
    done = charrnn("runs", "--json", cwd=tmp_path)
    assert [json.loads(line)["run"] for line in done.stdout.splitlines()] == ["good"]
    assert (done.exit_code, "broken/config.json: cannot be read" in done.stderr) == (0, True)


def test_bundled_corpora_are_listed_and_learnt_by_name(charrnn: Run, tmp_path: Path) -> None:
    listed = [json.loads(line) for line in charrnn("corpora", "--json", cwd=tmp_path).stdout.splitlines()]
    sizes = {row["name"]: row["characters"] for row in listed}
    assert sizes["fables"] >= 120_000 and set(sizes) == {"fables", "towns", "quatrains-zh"}
    done = charrnn("train", "quatrains-zh", *TINY, "--quiet", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_resume_goes_on(charrnn: Run, place: Path, tmp_path: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "charrnn", "train", str(place / "rhyme.txt"), *FAST, "--steps", "1000000"]
    settings = {**os.environ, **OPTAX_PROMOTION}
    running = subprocess.Popen(
        [*command, "--eval-every", "500000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=settings
    )
    metrics = tmp_path / "checkpoints" / "rhyme" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(number)
    _, talk = running.communicate(timeout=60)
    assert running.returncode == code, talk
    step = int(re.search(r"Stopped and saved at step ([\d,]+)", talk)[1].replace(",", ""))
    assert (tmp_path / "checkpoints" / "rhyme" / "steps" / str(step)).is_dir()
    done = charrnn("train", "--resume", "--steps", str(step + 5), cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[-1]["step"] == step + 5


def test_a_page_in_a_closed_pipe_ends_quietly(place: Path) -> None:
    command = f"yes the cat | head -n 500 | {sys.executable} -m charrnn score rhyme - --html - | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[2]}}"], cwd=place, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "<!doctype ") and "Broken" not in done.stderr


def test_a_closed_pipe_ends_quietly(place: Path) -> None:
    line = (
        f"{sys.executable} -m charrnn sample rhyme --length 100000 --ignore-eos | head -c 10; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", line], cwd=place, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", 10)


BAD_BYTES = b"good text\n" * 300_000 + b"\xff"
FILES: dict[str, bytes] = {
    "empty.txt": b"",
    "blank.txt": b"\n\n\n",
    "short.txt": b"a short text",
    "bad.txt": BAD_BYTES,
    "utf16.txt": "hello".encode("utf-16"),
    "nul.txt": b"abc\0def" * 500,
    "good.txt": RHYME.encode() * 60,
}
REFUSED = [
    (("train", "nosuch.txt"), "nosuch.txt: no such file or folder"),
    (("train", "empty.txt"), "empty.txt: empty"),
    (("train", "blank.txt", "--documents", "line"), "blank.txt: empty"),
    (("train", "folder"), "folder: no text files in this folder"),
    (("train", "short.txt"), "fewer than one window of 64"),
    (("train", "bad.txt"), "not valid utf-8 at byte 3000000 (0xff)"),
    (("train", "utf16.txt"), "--encoding utf-16"),
    (("train", "nul.txt"), "NUL character near byte 3"),
    (("train", "good.txt", "--encoding", "klingon"), "no such text encoding"),
    (("train",), "give a text to learn"),
    (("train", "good.txt", "--hidden", "0"), "--hidden must be at least 1, not 0"),
    (("train", "good.txt", "--dropout", "1"), "--dropout must be less than 1"),
    (("train", "good.txt", "--learning-rate", "nan"), "--learning-rate must be a finite number"),
    (("train", "good.txt", "--val-fraction", "0"), "--val-fraction must be greater than 0"),
    (("train", "good.txt", "--minutes", "-1"), "--minutes must be greater than 0"),
    (("train", "good.txt", "--cell", "lstmm"), "'lstmm' is not one of"),
    (("train", "good.txt", "--min-count", "1000000"), "lower --min-count"),
    (("train", "good.txt", "--run", "../up"), "a run's name is one folder name"),
    (("train", "good.txt", "--test-fraction", "0.95"), "leave no text to learn"),
    (("train", "good.txt", "--init-from", "nosuch"), "no run called nosuch"),
    (("train", "--resume"), "no runs in checkpoints yet"),
    (("sample", "nosuch"), "no run called nosuch"),
    (("sample",), "no runs in checkpoints yet"),
    (("sample", "--temp", "-1"), "--temp must be at least 0"),
    (("sample", "--top-p", "0"), "--top-p must be greater than 0"),
    (("show", "nosuch"), "no run called nosuch"),
    (("complete", "nosuch"), "no run called nosuch"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_wrong_use_gets_one_clear_line(charrnn: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in FILES.items():
        if name in arguments:
            (tmp_path / name).write_bytes(content)
    done = charrnn(*arguments, cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_process_that_is_used_wrongly_exits_2(tmp_path: Path) -> None:
    done = process("train", "nosuch.txt", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "nosuch.txt: no such file or folder" in done.stderr


def test_a_piped_text_is_learnt_and_resumed(charrnn: Run, tmp_path: Path) -> None:
    text = RHYME * 60
    piped = process("train", "-", *TINY, cwd=tmp_path, stdin=text)
    assert (piped.returncode, "checkpoints/piped" in piped.stderr) == (0, True)
    assert charrnn("train", "--resume", "--steps", "4", cwd=tmp_path).exit_code == 0
    done = charrnn("train", "--resume", "--steps", "6", cwd=tmp_path, CHARRNN_CACHE=str(tmp_path / "cache"))
    assert (done.exit_code, "pipe it again" in done.stderr) == (2, True)
    done = charrnn("train", "-", "--resume", "--steps", "6", cwd=tmp_path, stdin=text + "more")
    assert (done.exit_code, "its content changed" in done.stderr) == (2, True)


def test_mended_bytes_train(charrnn: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(RHYME.encode() * 60 + b"\xff\xfe")
    done = charrnn("train", "bad.txt", *TINY, "--errors", "replace", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr


def test_a_changed_corpus_or_option_is_not_resumed(charrnn: Run, tmp_path: Path) -> None:
    text = tmp_path / "changing.txt"
    text.write_text(RHYME * 60, "utf-8")
    assert charrnn("train", "changing.txt", *TINY, cwd=tmp_path).exit_code == 0
    done = charrnn("train", "--resume", "--hidden", "17", cwd=tmp_path)
    assert (done.exit_code, "--hidden is 16 in this run" in done.stderr) == (2, True)
    text.write_text(RHYME * 61, "utf-8")
    done = charrnn("train", "--resume", cwd=tmp_path)
    assert (done.exit_code, "its content changed" in done.stderr) == (2, True)
    done = charrnn("train", "changing.txt", "--run", "changing", cwd=tmp_path)
    assert (done.exit_code, "--resume to go on with it" in done.stderr) == (2, True)


def test_a_system_that_is_not_ours_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit, match="on Windows it runs in WSL"):
        main()
