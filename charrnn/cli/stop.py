"""Being asked to stop: Ctrl-C, SIGTERM, or a terminal that goes away."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_REQUEST_SECONDS = 0.5
_PATIENCE_SECONDS = 8.0


class Stopped(SystemExit):
    """Raised where the program is when it is asked to stop and there is nothing to save.

    A SystemExit, since the event loop of a prompt lets no other exception of a signal through.
    """


_ASKED_BY = {KeyboardInterrupt: signal.SIGINT, Stopped: signal.SIGTERM}
_AGAIN_SECONDS = 0.01
_raised: list[type[BaseException]] = []
"""What signals raised since `forget_interrupts`, heard or not."""


def hear_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, and never be lost.

    Python drops what a signal raises inside a callback of its own, such as JAX's at each garbage collection (one
    Ctrl-C in four, while text is drawn). The signal is then sent once more. What is lost on the way through JAX (one in
    forty) is raised again by `raise_lost_interrupt`, or sent again by `interrupt_again`.
    """
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):

        def interrupt(number: int, frame: FrameType | None) -> NoReturn:
            _raised.append(KeyboardInterrupt)
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
    usual = sys.unraisablehook

    def hear(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type in _ASKED_BY:
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), _ASKED_BY[dropped.exc_type]))
            again.daemon = True
            again.start()
        else:
            usual(dropped)

    sys.unraisablehook = hear


def stop_when_terminated() -> None:
    """Let SIGTERM, and a terminal that goes away, raise Stopped, so that what is under way tidies up."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        _raised.append(Stopped)
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` wants it
        signal.signal(signal.SIGHUP, stop)


def raise_lost_interrupt() -> None:
    """Raise what a signal raised and nobody heard; whoever works calls this now and then."""
    if _raised and threading.current_thread() is threading.main_thread():
        raise _raised.pop()


def lost_interrupts() -> int:
    """How many were raised that nobody may have heard."""
    return len(_raised)


def interrupt_again() -> None:
    """Send the last signal that nobody heard once more; on a thread beside one that works for long."""
    with contextlib.suppress(IndexError):  # it was heard just now
        os.kill(os.getpid(), _ASKED_BY[_raised.pop()])


def forget_interrupts() -> None:
    """Each Ctrl-C so far was heard."""
    _raised[:] = [kind for kind in _raised if kind is not KeyboardInterrupt]


class StopRequest:
    """Turns the first signal into a request to stop; a second one ends the program at once.

    Outside `deferred` a request raises Stopped. Inside it is only noted, and whoever works there
    asks `requested`. If nobody asks for eight seconds (a program is being compiled, say) the program ends:
    what was saved is safe at every instant. A thread sees to that, since the main one may be
    outside Python for long.
    """

    def __init__(self) -> None:
        self.code = 0
        self._deferred = False
        self._noticed = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether someone asked to stop."""
        if self.code:
            self._noticed.set()
        return bool(self.code)

    def ask(self, number: int) -> None:
        """Note a request, as that signal would."""
        self.code = self.code or 128 + (signal.SIGTERM if number == signal.SIGHUP else number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a request is noted and not raised."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def __enter__(self) -> "StopRequest":
        self._hear, self._tell = socket.socketpair()
        self._tell.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._tell.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:  # as `nohup` wants it
                continue
            self._before[number] = signal.signal(number, self._heard)
        threading.Thread(target=self._watch, daemon=True, name="charrnn-stop").start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._tell.close()  # the thread hears the end of it

    def _heard(self, number: int, _: FrameType | None) -> None:
        first = not self.code
        self.ask(number)
        if first and not self._deferred:
            self._noticed.set()
            raise Stopped

    def _watch(self) -> None:
        """On its own thread: the system writes each signal's number to the socket, whatever Python is doing."""
        with self._hear:
            number = self._next(None)
            first = time.monotonic()
            while number:
                patience = first + _PATIENCE_SECONDS - time.monotonic()
                try:
                    again = self._next(None if self._noticed.is_set() else max(patience, 0.01))
                except TimeoutError:
                    if not self._noticed.is_set():
                        _leave(number)
                    continue
                if not again:
                    return
                if time.monotonic() - first > _SAME_REQUEST_SECONDS:  # a shell may send the first one twice
                    _leave(number)

    def _next(self, timeout: float | None) -> int:
        """The number of the next signal to stop, 0 once nobody listens for them any more."""
        self._hear.settimeout(timeout)
        while heard := self._hear.recv(1):
            if heard[0] in _SIGNALS:
                return heard[0]
        return 0


def _leave(number: int) -> NoReturn:
    """End the program here and now, the cursor shown again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        show_cursor = "\x1b[?25h" if os.isatty(sys.stderr.fileno()) else ""
        os.write(sys.stderr.fileno(), f"{show_cursor}\nStopped at once; what was saved before is safe.\n".encode())
    os._exit(128 + (signal.SIGTERM if number == signal.SIGHUP else number))


class Talk:
    """The standard error of a program that is to save its work even when nobody reads it any more.

    When it cannot be written (the terminal is gone, a pipe is closed), `lost` is called once and
    what is said from then on is dropped.
    """

    def __init__(self, file: TextIO, lost: Callable[[], None]):
        self._file, self._lost = file, lost

    def write(self, text: str) -> int:
        """Write what can be written."""
        with self._watched():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with self._watched():
            self._file.flush()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: it was closed
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            lost, self._lost = self._lost, lambda: None
            lost()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
