"""Every command used wrongly: one line that says what and where, and an exit code; nothing is begun or left."""

from pathlib import Path

import pytest
from person import run

pytestmark = pytest.mark.usefixtures("promotion", "place")

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
