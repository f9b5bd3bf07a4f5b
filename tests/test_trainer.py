"""What a run is made from before it is trained: options, and what the machine's speed decides."""

from pathlib import Path
from typing import Any

import pytest

from charrnn import trainer
from charrnn.checkpoint import Lock
from charrnn.errors import ConfigError
from charrnn.parts import corpus_of
from charrnn.trainer import Job, start
from charrnn.training.speed import Speed

TEXT = "the fox ran on the hill, and the hare sat still.\n" * 200


def begun(folder: Path, text: str = TEXT, **options: Any) -> Job:
    """A run that is ready to train, its lock released."""
    (folder / "text.txt").write_text(text, "utf-8")
    job = start((str(folder / "text.txt"),), checkpoints=folder / "runs", hidden_size=16, dropout=0.3, **options)
    job.lock.release()
    return job


def test_a_short_time_is_no_reason_to_drop_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "speed_of_this_machine", lambda precision: Speed(step=1e-3, products=1e9))
    drops = [begun(tmp_path, **budget).task.config.model.weight_drop for budget in ({"minutes": 0.01}, {"epochs": 600})]
    assert drops[0] == 0 < drops[1]


@pytest.mark.parametrize(("style", "noted"), [("line", True), ("file", False)])
def test_a_reset_rate_that_does_nothing_is_told(tmp_path: Path, style: str, noted: bool) -> None:
    notes = begun(tmp_path, documents=style, reset_rate=0.01, steps=1).notes
    assert any("--reset-rate does nothing here" in note for note in notes) == noted


@pytest.mark.parametrize("style", ["lines", "\\n;\\n"])
def test_a_separator_that_the_text_has_not_is_refused(tmp_path: Path, style: str) -> None:
    (tmp_path / "text.txt").write_text("a line; and one\n" * 50, "utf-8")
    with pytest.raises(ConfigError, match=r"no style \(file, line, paragraph\), and as a separator it is not in"):
        start((str(tmp_path / "text.txt"),), checkpoints=tmp_path, documents=style, steps=1)


def test_a_separator_with_a_backslash_is_the_same_when_resumed(tmp_path: Path) -> None:
    text, options = tmp_path / "text.txt", {"hidden_size": 8, "seq_length": 8, "batch_size": 2, "steps": 1}
    text.write_text("one two three\\newpage" * 30, "utf-8")
    job = start((str(text),), run="run", checkpoints=tmp_path / "runs", documents=r"\\newpage", **options)
    job.lock.release()
    again = start((), run="run", checkpoints=tmp_path / "runs", resume=True, steps=2)
    assert job.corpus.style == again.corpus.style == r"\newpage" and len(again.corpus.spans) == 30
    assert len(corpus_of(again.task.config).spans) == 30


def test_runs_that_begin_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    options = {"steps": 1, "go_on": lambda name, step: False}
    first = begun(tmp_path, **options).task
    making = tmp_path / "runs" / ".text-2.partial"
    making.mkdir()
    lock = Lock(making)
    second = begun(tmp_path, **options).task
    lock.release()
    assert [task.folder.name for task in (first, second)] == ["text", "text-3"]
    with pytest.raises(ConfigError, match=r"--run text: .* exists"):
        begun(tmp_path, run="text", **options)


def test_a_run_that_is_resumed_as_it_is_keeps_its_configuration(tmp_path: Path) -> None:
    begun(tmp_path, steps=1, run="own")
    config = tmp_path / "runs" / "own" / "config.json"
    written = config.stat().st_mtime_ns
    start((), run="own", checkpoints=tmp_path / "runs", resume=True).lock.release()
    assert config.stat().st_mtime_ns == written
    start((), run="own", checkpoints=tmp_path / "runs", resume=True, steps=2).lock.release()
    assert config.stat().st_mtime_ns > written


def test_a_run_is_resumed_with_its_own_options_and_no_others(tmp_path: Path) -> None:
    begun(tmp_path, TEXT + "\n" + TEXT, documents="\n\n", num_layers=2, residual=True, steps=1, run="own")
    same = {"documents": r"\n\n", "num_layers": 2, "residual": True, "precision": "auto", "size": "auto"}
    start((), run="own", checkpoints=tmp_path / "runs", resume=True, **same).lock.release()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"--documents is \\n\\n in this run and cannot change"):
        start((), run="own", checkpoints=tmp_path / "runs", resume=True, documents="line")
