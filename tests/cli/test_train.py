"""The question of `charrnn train` before it goes on with a run that the same command began."""

import sys

import click
import pytest

from charrnn.cli.train import _ask_to_go_on


@pytest.mark.parametrize(("step", "saved"), [(5_000, " (saved at step 5,000)"), (0, "")])
def test_it_says_so_where_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int, saved: str
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert _ask_to_go_on("rhyme", step)
    said = f"note: run rhyme is not finished{saved}: going on with it (--new begins another)\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("answer", [True, False])
def test_it_asks_whoever_is_there(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    asked = []

    def confirm(question: str, *, default: bool, err: bool) -> bool:
        asked.append((question, default, err))
        return answer

    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", confirm)
    assert _ask_to_go_on("rhyme", 7) is answer
    assert asked == [("Run rhyme is not finished (saved at step 7). Go on with it?", True, True)]
