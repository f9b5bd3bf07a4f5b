"""The display, on consoles of several widths."""

import dataclasses
import io

import pytest
from rich.console import Console

from charrnn.cli.display import LiveDisplay, clock, describe_overfit, sparkline
from charrnn.cli.options import shown
from charrnn.config import DataConfig, ModelConfig, Origin, RunConfig, TrainingConfig
from charrnn.trainer import Sampled, start
from charrnn.training.curve import Overfit, Point
from charrnn.training.events import Trained, Validated

RHYME = "the cat sat on the mat and the dog sat on the log.\n"


def test_sparkline_spans_its_values() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([3.0, 2.0, 1.0], 5) == "█▅▁"
    assert len(sparkline([float(k) for k in range(1000)], 30)) == 30
    assert sparkline([2.0, 2.0], 4) == "▁▁"


def test_clock() -> None:
    assert [clock(5), clock(65.4), clock(3723)] == ["0:05", "1:05", "1:02:03"]


@pytest.mark.parametrize(("text", "terminal", "expected"), [
    ("a\x1b[2Jb\x7f\n\t", True, "a\u241b[2Jb\u2421\n\t"),
    ("a\x1b[2Jb\x7f\n\t", False, "a\x1b[2Jb\x7f\n\t"),
    ("\ud800", True, "?"),
])  # fmt: skip
def test_control_characters_are_made_visible_on_a_terminal(text: str, terminal: bool, expected: str) -> None:
    assert shown(text, terminal) == expected


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_panel_fits_any_width(tmp_path, width: int) -> None:
    (tmp_path / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    job = start((str(tmp_path / "rhyme.txt"),), checkpoints=tmp_path / "c", hidden_size=8, steps=10)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    display = LiveDisplay(console, job)
    console.print(display.render())  # before the first step
    for step in range(1, 60):
        display.show(Trained(step, 0.1, 3.0 / step, 0.5, 0.01, 81_234.0, step, step / 60))
    display.show(Validated(59, 1.0, 1.5, True, 60.0, None))  # type: ignore[arg-type]
    display.show(Sampled(59, "the cat sat\x1b on the mat\n" * 20))
    console.file = io.StringIO()
    console.print(display.render())
    lines = console.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    text = "\n".join(lines)
    assert "98%" in text and "left" in text and "validation" in text and "\x1b" not in text
    assert len(lines) < 20


def test_overfitting_is_told_with_what_would_help() -> None:
    config = RunConfig(("a",), "", DataConfig(), ModelConfig(hidden_size=256, dropout=0.1), TrainingConfig(), {})
    found = Overfit(Point(810, 1.0, 1.4), Point(2526, 0.7, 1.6))
    text = describe_overfit(found, config)
    assert "since step 810" in text and "2.020 to 2.308 bits" in text
    assert "more text, --dropout 0.3, --hidden 128, stopping sooner (--patience 5)" in text
    tuned = dataclasses.replace(config, init_from=Origin("/old", ""), model=ModelConfig(hidden_size=256, dropout=0.6))
    tuned = dataclasses.replace(tuned, training=TrainingConfig(patience=4))
    assert describe_overfit(found, tuned).endswith("What would help: more text")  # nothing else may still be turned
