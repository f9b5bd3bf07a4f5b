"""The bar comes when nothing else is seen for a while, and goes before anything is written."""

import io
import time

import pytest
from rich.console import Console

from charrnn.cli import progress
from charrnn.cli.progress import Working


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal is sent; the bar has no patience."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 0.001)
    return io.StringIO()


def wait_for(screen: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in screen.getvalue():
        assert time.monotonic() < deadline, screen.getvalue()
        time.sleep(0.001)


def test_the_bar_gives_way_and_comes_back_in_a_line_of_its_own(screen: io.StringIO) -> None:
    with Working("drawing", Console(file=screen, force_terminal=True, width=60)) as bar:
        bar.expect(4)
        bar.advance(3)
        wait_for(screen, "75%")
        bar.clear("half a line")
        assert screen.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))  # its line is empty, the cursor shown
        before = screen.getvalue()
        time.sleep(0.05)
        assert screen.getvalue() == before
        screen.truncate(screen.seek(0))
        bar.clear("the rest\n")
        wait_for(screen, "75%")
    over = screen.getvalue()
    time.sleep(0.02)
    assert screen.getvalue() == over and over.endswith(("\x1b[2K", "\x1b[?25h"))


def test_in_a_pipe_there_is_none(screen: io.StringIO) -> None:
    with Working("drawing", Console(file=screen, force_terminal=False)) as bar:
        bar.reach(1, 2)
        time.sleep(0.02)
    assert screen.getvalue() == ""
