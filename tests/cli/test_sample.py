"""`charrnn sample` as a person runs it, in this process but for interrupts."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner, Result

from charrnn.checkpoint import RunFolder
from charrnn.cli.main import cli
from charrnn.cli.options import shown
from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from charrnn.errors import CorpusError
from charrnn.nn.network import create
from charrnn.text.corpus import prepare
from charrnn.text.vocabulary import Vocabulary

CORPUS = "ab\nba\nabba\nbaab\ncab\ncaab\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of lines, made without training."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "lines.txt").write_text(CORPUS, "utf-8")
    corpus = prepare([folder / "lines.txt"], documents="line")
    shape, vocabulary = ModelConfig(hidden_size=8, embedding_size=4, dropout=0.0), Vocabulary("\x1babc")
    learnt, random = (str(folder / "lines.txt"),), np.random.default_rng(0)
    training = TrainingConfig(seq_length=8, batch_size=4, learning_rate=0.01, eval_every=10)
    config = RunConfig(learnt, corpus.fingerprint, DataConfig("line"), shape, training, {})
    network = jax.tree.map(
        lambda weights: weights + random.normal(0, 0.3, weights.shape).astype(np.float32),
        create(shape, vocabulary.size, 1),
    )
    made, lock = RunFolder.create(folder / "checkpoints", "lines", config, vocabulary)
    made.save_weights(network, {"step": 1, "nats": 1.0})
    lock.release()
    return folder


def run(place: Path, *arguments: str, stdin: str | bytes = "") -> Result:
    seed = () if "--beam" in arguments else ("--seed", "1")
    command = ["sample", "lines", "--checkpoints", str(place / "checkpoints"), *seed, *arguments]
    return CliRunner().invoke(cli, command, input=stdin)


def drawn(place: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run(place, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_holds_all_that_is_known(place: Path) -> None:
    samples = drawn(place, "--n", "3", "--temp", "0.9", "--length", "9", "--prompt", "a")
    assert len(samples) == 3
    for number, sample in enumerate(samples):
        assert set(sample) == {"text", "prompt", "log_probability", "ended", "seed", "row", "ids", "temperature"}
        assert (sample["row"], sample["seed"], sample["prompt"], sample["temperature"]) == (number, 1, "a", 0.9)
        assert sample["ended"] in ("eos", "length") and len(sample["ids"]) == len(sample["text"]) <= 9
    with_all = drawn(place, "--logprobs", "--length", "9", "--ignore-eos")[0]
    assert sum(with_all["log_probabilities"]) == pytest.approx(with_all["log_probability"], abs=1e-4)


def test_the_prompt_is_kept_or_left_out(place: Path) -> None:
    (text,) = (sample["text"] for sample in drawn(place, "--prompt", "cab", "--length", "9"))
    assert run(place, "--prompt", "cab", "--length", "9").stdout == f"cab{text}\n"
    assert run(place, "--prompt", "cab", "--length", "9", "--no-echo").stdout == f"{text}\n"
    (place / "prompt.txt").write_text("cab", "utf-8")
    assert run(place, "--prompt-file", str(place / "prompt.txt"), "--length", "9").stdout == f"cab{text}\n"
    assert run(place, "--prompt-file", "-", "--length", "9", stdin="cab").stdout == f"cab{text}\n"
    assert run(place, "--prompt", "a" * 20_000, "--length", "0").stdout == "a" * 20_000 + "\n"


def test_a_block_for_each_temperature(place: Path) -> None:
    lines = run(place, "--temp", "0,0.5,2", "--length", "8", "--ignore-eos").stdout.splitlines()
    assert lines[::3] == [f"--- temperature {heat} ---" for heat in ("0", "0.5", "2")]
    assert lines[1] == run(place, "--greedy", "--length", "8", "--ignore-eos").stdout[:8]
    assert [sample["temperature"] for sample in drawn(place, "--temp", "0,0.5", "--n", "2")] == [0, 0, 0.5, 0.5]


def test_repeats_and_known_texts_are_dropped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "charrnn.generation.prepared.lanes_for", lambda texts, prepared, precision: 1
    )  # each is one more to compile
    options = ("--n", "30", "--length", "4", "--forbid", "\x1b")
    texts = [sample["text"] for sample in drawn(place, *options)]
    assert len(set(texts)) < 30 and set(texts) & set(CORPUS.split("\n"))
    done = run(place, *options, "--unique", "--novel")
    kept = done.stdout.splitlines()
    assert len(kept) == len(set(kept)) == 30 and not set(kept) & set(CORPUS.split())
    assert re.search(r"dropped: [1-9]\d* repeats, [1-9]\d* that stand in the corpus", done.stderr)
    few = run(place, "--n", "9", "--length", "1", "--allow", "a", "--unique")
    assert "only 2 of 9 texts" in few.stderr and sorted(few.stdout.splitlines()) == ["", "a"]


def test_novelty_is_said_and_written(place: Path) -> None:
    done = run(place, "--novelty", "--n", "2", "--length", "50", "--ignore-eos", "--json")
    *_, last = map(json.loads, done.stdout.splitlines())
    assert last == {"runs": 62, "runs_in_corpus": 0, "share_in_corpus": 0.0}
    assert "in the corpus: 0.0% of 62" in done.stderr
    assert "no text has so many" in run(place, "--novelty", "--length", "5").stderr


def test_without_its_corpus_nothing_is_novel(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.parts.find_prepared", lambda *_: None)
    assert run(place, "--novel").exit_code == 0  # from the file, which is unchanged
    monkeypatch.setattr("charrnn.parts.prepare", lambda *_, **__: type("Other", (), {"fingerprint": "other"}))
    refused = run(place, "--novel")
    assert "lines.txt: the text that the run learnt has changed since" in refused.stderr
    assert refused.exit_code == CorpusError.exit_code


def test_out_is_the_text_and_nothing_else(place: Path) -> None:
    expected = run(place, "--n", "3", "--prompt", "\x1b").stdout
    done = run(place, "--n", "3", "--prompt", "\x1b", "--out", str(place / "out.txt"))
    assert (done.stdout, (place / "out.txt").read_text("utf-8")) == ("", expected)
    assert run(place, "--n", "2", "--out", str(place / "out.txt")).exit_code == 0
    assert len((place / "out.txt").read_text("utf-8").splitlines()) == 2
    assert run(place, "--regex", "[", "--out", str(place / "out.txt")).exit_code == 2
    assert len((place / "out.txt").read_text("utf-8").splitlines()) == 2  # nothing is lost by what is refused
    assert run(place, "--regex", "[", "--out", str(place / "none.txt")).exit_code == 2
    assert not (place / "none.txt").exists()
    assert run(place, "--n", "0", "--out", str(place / "out.txt")).exit_code == 0
    assert (place / "out.txt").read_text("utf-8") == ""
    assert run(place, "--n", "3", "--prompt", "\x1b", "--out", "-").stdout == expected
    refused = run(place, "--out", str(place / "none" / "out.txt"))
    assert refused.exit_code == 2 and "cannot be written" in refused.stderr


def test_logprobs_are_a_line_a_character(place: Path) -> None:
    (sample,) = drawn(place, "--logprobs", "--length", "9", "--ignore-eos")
    lines = [line.split("\t") for line in run(place, "--logprobs", "--length", "9", "--ignore-eos").stdout.splitlines()]
    assert [json.loads(character) for character, _ in lines] == list(sample["text"])
    assert [float(value) for _, value in lines] == pytest.approx(sample["log_probabilities"], abs=1e-4)
    (ended,) = drawn(place, "--allow", "a")
    *_, end = run(place, "--logprobs", "--allow", "a").stdout.splitlines()
    assert ended["ended"] == "eos" and end.startswith('""\t')
    said = [float(line.split("\t")[1]) for line in run(place, "--logprobs", "--allow", "a").stdout.splitlines()]
    assert sum(said) == pytest.approx(ended["log_probability"], abs=1e-3)
    (whole,) = drawn(place, "--logprobs", "--allow", "a")
    parts = [*whole["log_probabilities"], whole["end_log_probability"]]
    assert sum(parts) == pytest.approx(whole["log_probability"], abs=1e-5) and "end_log_probability" not in sample


def test_a_beam(place: Path) -> None:
    found = drawn(place, "--beam", "6", "--n", "2", "--length", "6")
    assert len(found) == 2 and {sample["temperature"] for sample in found} == {None}
    few = run(place, "--beam", "6", "--n", "3", "--regex", "a|b", "--length", "6")
    assert len(few.stdout.splitlines()) == 2 and "only 2 of 3 texts" in few.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temp", "-1"), "--temp must be at least 0"), (("--temp", "nan"), "finite"), (("--temp", "1,x"), "'1,x'"),
        (("--top-p", "0"), "--top-p must be greater than 0"), (("--regex", "["), "not a regular expression"),
        (("--prompt", "a", "--prompt-file", "b"), "not both"), (("--prompt-file", "nosuch"), "cannot be read"),
        (("--stop", ""), "--stop needs a text"), (("--length", "-1"), "--length must be at least 0"),
        (("--beam", "2", "--n", "3"), "at most 2"), (("--beam", "2", "--temp", "1"), "leave --temp out"),
        (("--beam", "2", "--top-k", "3"), "leave --top-k out"), (("--beam", "2", "--greedy"), "leave --greedy out"),
        (("--greedy", "--temp", "1"), "--greedy is --temp 0"), (("--beam", "2", "--seed", "3"), "leave --seed out"),
        (("--temp", "0,1", "--regex", "["), "not a regular expression"),
        (("--regex", "a*", "--length", "200000", "--min-length", "100001"), "at most 100,000"),
        (("--repeat-window", "9"), "--repeat-window says where --repeat-penalty looks"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_use_gets_one_line(place: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(place, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr


def test_control_characters_are_shown_on_a_terminal_and_raw_in_a_pipe(place: Path) -> None:
    assert shown("\x1b[2J\x07\r\x9b\x7f a\tb\n", True) == "␛[2J␇␍\\x9b␡ a\tb\n"
    assert "\x1b" in run(place, "--length", "60", "--allow", "\x1b").stdout


def test_an_interrupt_ends_cleanly(place: Path) -> None:
    command = [sys.executable, "-m", "charrnn", "sample", "lines", "--length", str(2**30), "--ignore-eos"]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    drawn = process.stdout.read(100)
    assert drawn
    process.send_signal(signal.SIGINT)
    rest, talk = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in talk) == (130, False), talk
    assert (drawn + rest).endswith(b"\n")


def test_as_a_person_runs_it(open_terminal: Callable[..., Any]) -> None:
    terminal = open_terminal("sample", "letters", "--length", str(2**30), "--ignore-eos", "--prompt", "abc")
    terminal.expect(r"abc[a-f \r\n]{200}")  # as it is drawn: it would go on for long
    terminal.send("\x03")
    code, shown = terminal.leave()
    assert code == 130 and "Traceback" not in shown and shown.endswith("\r\n"), shown[-2000:]


def test_several_texts_at_a_terminal(open_terminal: Callable[..., Any]) -> None:
    options = ("--n", "40", "--length", "20", "--ignore-eos", "--seed", "1")
    code, shown = open_terminal("sample", "lines", *options).leave()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 0 and len(re.findall(r"(?<![^\r\n])[a-f ]{20}(?=\r\n)", plain)) == 40, plain
