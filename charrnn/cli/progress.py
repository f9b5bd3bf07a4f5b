"""A progress bar on the standard error, for work that turns out to be long."""

import contextlib
import time
from collections.abc import Callable, Iterator

_PATIENCE = 1.0


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `progress(done, total)`. The bar appears after a second, on a terminal only, and goes when done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, started = bar.add_task(what, total=None, visible=False), time.monotonic()

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=time.monotonic() - started > _PATIENCE)

        yield progress
