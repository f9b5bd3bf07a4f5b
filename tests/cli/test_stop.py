"""Requests to stop: what is raised, what is only noted, and talk that nobody hears any more."""

import contextlib
import io
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator

import pytest
from rich.console import Console

from charrnn.cli import stop
from charrnn.cli.progress import Working
from charrnn.cli.stop import (
    Stopped,
    StopRequest,
    Talk,
    forget_interrupts,
    hear_interrupts,
    raise_lost_interrupt,
    stop_when_terminated,
)


@pytest.fixture
def heeded() -> Iterator[None]:
    """A terminal that goes away is heeded, also where the tests run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_goes_away_is_ignored_under_nohup(heeded: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=str
)
def test_the_first_signal_is_noted_where_there_is_something_to_save(
    number: signal.Signals, code: int, heeded: None
) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested()
        with stop.deferred():
            os.kill(os.getpid(), number)
            assert stop.requested() and stop.code == code
            os.kill(os.getpid(), number)  # at once again: a shell's second message, not a person's
            assert stop.requested()
    assert signal.getsignal(number) is before


def test_it_is_raised_where_there_is_nothing_to_save() -> None:
    with StopRequest() as stop, pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.code == 143


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals raise as in the program; what was before is put back."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    hear_interrupts()
    stop_when_terminated()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop._raised.clear()


def test_what_a_callback_drops_is_raised_again(heard: None) -> None:
    for number, raised in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)):
        with pytest.raises(raised):
            gone = Gone()
            watched = weakref.ref(gone, lambda _, number=number: os.kill(os.getpid(), number))
            del gone
            assert watched() is None
            time.sleep(5)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)], ids=str)
def test_what_was_swallowed_is_raised_by_whoever_works_next(
    heard: None, number: signal.Signals, raised: type[BaseException]
) -> None:
    def swallow() -> None:
        with contextlib.suppress(raised):
            os.kill(os.getpid(), number)

    with Working("drawing", Console(file=io.StringIO())) as bar:
        bar.advance()
        swallow()
        with pytest.raises(raised):
            bar.advance()
        bar.advance()  # once is enough
        swallow()
        stop._raised.clear()
        bar.reach(1, 2)


def test_what_was_lost_is_sent_again_where_nothing_says_how_far_it_is(heard: None) -> None:
    with pytest.raises(KeyboardInterrupt), Working("drawing", Console(file=io.StringIO())):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)


def test_each_interrupt_is_forgotten_but_no_request_to_stop(heard: None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            os.kill(os.getpid(), number)
    forget_interrupts()
    with pytest.raises(Stopped):
        raise_lost_interrupt()


class Gone(io.StringIO):
    """A terminal that went away."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_talk_that_nobody_hears_is_dropped_and_told_once() -> None:
    told: list[bool] = []
    talk = Talk(Gone(), lambda: told.append(True))
    for _ in range(3):
        assert talk.write("words") == 5
    talk.flush()
    assert told == [True]
    kept = io.StringIO()
    assert Talk(kept, pytest.fail).write("words") == 5 and kept.getvalue() == "words"
