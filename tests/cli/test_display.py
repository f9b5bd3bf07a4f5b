"""The display, on consoles of several widths."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from charrnn.cli.descriptions import describe, describe_overfit
from charrnn.cli.display import Display, LiveDisplay, clock, sparkline
from charrnn.cli.options import shown
from charrnn.config import DataConfig, ModelConfig, Origin, RunConfig, TrainingConfig
from charrnn.trainer import Sampled, start
from charrnn.training.curve import Overfit, Point
from charrnn.training.events import Finished, Slowed, Trained, Validated

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
    display.show(Validated(59, 1.0, 1.5, 1.1, True, 60.0, None))  # type: ignore[arg-type]
    display.show(Sampled(59, "the cat sat\x1b on the mat\n" * 20))
    console.file = io.StringIO()
    console.print(display.render())
    lines = console.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    text = "\n".join(lines)
    assert "98%" in text and "left" in text and "validation" in text and "\x1b" not in text
    assert len(lines) < 20
    assert lines[-1].rstrip() == "Ctrl-C stops and saves"  # and a ^C that the terminal shows there breaks no line


def test_overfitting_is_told_with_what_would_help() -> None:
    config = RunConfig(
        ("a",), "", DataConfig(), ModelConfig(hidden_size=256, dropout=0.1), TrainingConfig(minutes=5, epochs=60), {}
    )
    found = Overfit(Point(810, 1.0, 1.4), Point(2526, 0.7, 1.6))
    text = describe_overfit(found, config)
    assert "since step 810" in text and "2.020 to 2.308 bits" in text
    assert "more text, --dropout 0.3, --weight-drop 0.2, stopping sooner (--patience 5 --minutes 5 --epochs 60)" in text
    tuned = dataclasses.replace(config, model=ModelConfig(hidden_size=256, dropout=0.6, weight_drop=0.5))
    tuned = dataclasses.replace(tuned, training=TrainingConfig(patience=4))
    assert describe_overfit(found, tuned).endswith("What would help: more text")  # nothing else may still be turned
    without = dataclasses.replace(config, model=ModelConfig(cell="mingru", dropout=0.5))
    assert "--dropout 0.6, stopping" in describe_overfit(found, without)


def test_fine_tuning_that_only_spoils_is_told_without_a_loss_it_never_had() -> None:
    training = TrainingConfig(learning_rate=0.004)
    config = RunConfig(("a",), "", DataConfig(), ModelConfig(), training, {}, Origin("/old", ""))
    text = describe_overfit(Overfit(Point(0, math.inf, 1.4), Point(50, 0.7, 1.6)), config)
    assert "2.020 to 2.308 bits) from the first step on" in text and "those weights are kept" in text
    assert "a lower --learning-rate than 0.004" in text and "by heart" not in text and "inf" not in text


def test_losses_that_are_no_numbers_are_shown_and_draw_nothing(tmp_path) -> None:
    (tmp_path / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    job = start((str(tmp_path / "rhyme.txt"),), checkpoints=tmp_path / "c", hidden_size=8, steps=10)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    display = LiveDisplay(console, job)
    for loss in (3.0, math.nan, 2.0):
        display.show(Trained(1, 0.1, loss, loss, 0.01, 81_234.0, 1.0, 0.1))
        console.print(display.render())
    display.show(Slowed(7, 0.005))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(display.losses) == 2 and "gradient nan" in text and "the rate is halved to 0.005" in text


@pytest.mark.parametrize(("nats", "told"), [(3.2, True), (0.4, False)])
def test_a_model_that_learnt_nothing_says_so(tmp_path, nats: float, told: bool) -> None:
    (tmp_path / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    job = start((str(tmp_path / "rhyme.txt"),), checkpoints=tmp_path / "c", hidden_size=8, steps=10, learning_rate=5.0)
    console = Console(file=io.StringIO(), width=200)
    display = Display(console, job)
    display.show(Trained(10, 0.1, nats, 0.5, 0.01, 81_234.0, 1.0, 1.0))
    display.show(Finished(10, "budget", nats, 10, 1.0))
    display.farewell()
    shown = console.file.getvalue()
    assert ("note: it has learnt nothing" in shown) == told == ("a lower --learning-rate than 5" in shown)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("budget", "it has had its 1,234,567 steps, counted from"),
        ("patience", "give it a larger --patience, or --patience 0"),
    ],
)
def test_a_run_that_has_nothing_left_says_why(tmp_path, reason: str, told: str) -> None:
    (tmp_path / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    job = start((str(tmp_path / "rhyme.txt"),), checkpoints=tmp_path, hidden_size=8, steps=1_234_567, patience=2)
    console = Console(file=io.StringIO(), width=200)
    for learnt in (False, True):
        display = Display(console, job)
        if learnt:
            display.show(Trained(10, 0.1, 1.0, 0.5, 0.01, 81_234.0, 1.0, 1.0))
        display.show(Finished(10, reason, 1.0, 10, 1.0))
        display.farewell()
    assert console.file.getvalue().count(told) == 1  # type: ignore[attr-defined]


def test_one_line_tells_all_that_was_chosen(tmp_path) -> None:
    (tmp_path / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    call = {"checkpoints": tmp_path / "c", "hidden_size": 8, "dropout": 0.25, "precision": "float32"}
    chosen = [
        describe(start((str(tmp_path / "rhyme.txt"),), run=str(number), **(call | options)))
        for number, options in enumerate(({"steps": 1000, "weight_drop": 0.1, "learning_rate": 1 / 150},
                                          {"patience": 3, "optimizer": "muon", "embedding_size": 4}))
    ]  # fmt: skip
    size = "3,060 characters in 1 file document · 15 distinct · lstm 1x8"
    assert chosen[0] == (
        f"{size} · batch 10x64 · rate 0.00667, cosine · dropout 0.25, of weights 0.1 · float32 · 1,000 steps"
    )
    assert chosen[1].startswith(f"{size}, embedding 4 · batch 10x64 muon · rate 0.015, halved on a plateau · ")
