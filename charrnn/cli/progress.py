"""Bars on the standard error, for work that turns out to be long."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from charrnn.cli.stop import interrupt_again, lost_interrupts, raise_lost_interrupt

if TYPE_CHECKING:
    from rich.console import Console

_PATIENCE = 1.0
_LOOK_SECONDS = 0.1


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `progress(done, total)`. The bar appears after a second, on a terminal only, and goes when done."""
    with Working(what) as bar:
        yield bar.reach


class Working:
    """A bar for work that is silent for more than a second: on a terminal only, gone when done.

    Whatever else writes to that terminal calls `clear` with it first, and the bar gives way until a second has
    passed again; it never stands in a line that was begun.
    """

    def __init__(self, what: str, console: "Console | None" = None):
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, expand=True)
        # An empty line below the bar has room for the ^C that a terminal shows, which else would break it.
        self._live = Live(Group(self._bar, ""), console=console, transient=True, refresh_per_second=10)
        self._task = self._bar.add_task(what, total=None)
        self._terminal, self._shown, self._line_begun = console.is_terminal, False, False
        self._total: int | None = None
        self._quiet_since = time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> "Working":
        threading.Thread(target=self._watch, daemon=True, name="working").start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self.clear("")

    def reach(self, done: int, total: int) -> None:
        """So much is done of so much. Raises an interrupt that was lost."""
        raise_lost_interrupt()
        self._bar.update(self._task, completed=done, total=total)

    def expect(self, total: int) -> None:
        """So much is to be done in all. (Until some of it is, the bar just moves.)"""
        self._total = total

    def advance(self, by: int = 1) -> None:
        """So much more is done. Raises an interrupt that was lost."""
        raise_lost_interrupt()
        self._bar.update(self._task, advance=by, total=self._total)

    def clear(self, text: str) -> None:
        """Give way to a text that is about to be written to the same terminal."""
        with self._lock:
            if self._shown:
                self._live.stop()
                self._shown = False
            self._quiet_since = time.monotonic()
            self._line_begun = not text.endswith("\n") if text else self._line_begun

    def _watch(self) -> None:
        lost = 0
        while not self._over.wait(_LOOK_SECONDS):
            if lost and lost_interrupts():  # for so long nobody heard it: what works does not say how far it is
                interrupt_again()
            lost = lost_interrupts()
            with self._lock:
                waited = time.monotonic() - self._quiet_since
                hidden = self._terminal and not (self._shown or self._line_begun or self._over.is_set())
                if hidden and waited > _PATIENCE:
                    self._live.start()
                    self._shown = True
