"""What `show` and `runs` tell of a run."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from charrnn.checkpoint import RunFolder
from charrnn.cli.main import cli
from charrnn.training.progress import Progress


@pytest.fixture
def run(letters: Any, tmp_path: Path) -> RunFolder:
    data = dataclasses.replace(letters.config.data, documents="\n--\n\\")
    config = dataclasses.replace(letters.config, data=data)
    folder, lock = RunFolder.create(tmp_path / "checkpoints", "one", config, letters.vocabulary)
    lock.release()
    folder.append_metrics({"event": "train", "step": 10, "loss": 1.0, "elapsed": 61.0})
    return folder


def told(run: RunFolder, *command: str) -> str:
    done = CliRunner().invoke(cli, [*command, "--checkpoints", str(run.path.parent)])
    assert done.exit_code == 0
    return done.stdout


def test_options_have_the_names_of_the_command_line(run: RunFolder) -> None:
    lines = told(run, "show", "one").splitlines()
    assert r"data: --documents '\n--\n\\' --min-count 1" in lines[1]
    assert lines[2].startswith("model: --cell lstm --layers 1 --hidden 8 --embedding 4 --dropout 0.0")
    assert "--residual" not in lines[2] and "--seq-length 8 --batch-size 4" in lines[3]


def test_the_last_step_is_the_one_that_is_saved(run: RunFolder) -> None:
    def last() -> tuple[str, int]:
        return told(run, "show", "one").splitlines()[-1], json.loads(told(run, "runs", "--json"))["steps"]

    assert last() == ("time        1:01, 10 steps", 10)
    run.save_step(13, {}, Progress(elapsed=75.0).to_json())
    assert last() == ("time        1:15, 13 steps", 13)
