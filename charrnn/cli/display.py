"""What a person sees while a model learns: a live panel on a terminal, plain lines elsewhere."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from charrnn.cli.descriptions import describe, describe_nothing_learnt, describe_nothing_left, describe_overfit
from charrnn.cli.options import shown
from charrnn.trainer import Job, Sampled
from charrnn.training.events import Finished, Overfitted, Saved, Slowed, Tested, Trained, Validated, Warned
from charrnn.units import in_bits

_BLOCKS = "▁▂▃▄▅▆▇█"
_SAMPLE_LINES = 8
_PLAIN_SECONDS = 10.0
_LARGE_CORPUS = 20_000_000


@contextlib.contextmanager
def reading_progress(console: Console, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for preparing a large corpus; nothing for one that is ready at once."""
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    task = bar.add_task("reading", total=None)

    def progress(done: int, total: int) -> None:
        if total > _LARGE_CORPUS:
            bar.start()
            bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()  # a question may follow

    try:
        yield progress
    finally:
        bar.stop()


def make_display(console: Console, job: Job, quiet: bool) -> "Display":
    """The display that suits the console."""
    if quiet:
        return Display(console, job)
    return (
        LiveDisplay(console, job)
        if console.is_terminal and not console.is_dumb_terminal
        else PlainDisplay(console, job)
    )


def _both_units(nats: float) -> str:
    return f"{in_bits(nats):.3f} bits {nats:.4f} nats"


def sparkline(values: list[float], width: int) -> str:
    """A curve in `width` characters of eight heights, each the mean of its share of the values."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(k * len(values) / count) for k in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, span = min(means), max(max(means) - min(means), 1e-9)
    return "".join(_BLOCKS[min(7, int(8 * (mean - low) / span))] for mean in means)


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _slowed(event: Slowed) -> str:
    return f"step {event.step:,} no better: the rate is halved to {event.learning_rate:.2g}"


class Display:
    """Follows the events of a run. By itself it shows only warnings and the end (`--quiet`)."""

    def __init__(self, console: Console, job: Job):
        self.console, self.job = console, job
        self.finished: Finished | None = None
        self.learnt = False
        self.overfitted: Overfitted | None = None
        self.tested: Tested | None = None

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def show(self, event: Any) -> None:
        """Take in one event."""
        if isinstance(event, Trained):
            self.learnt = True
        elif isinstance(event, Warned):
            self.say(f"warning: {event.text}")
        elif isinstance(event, Overfitted):
            self.overfitted = event
        elif isinstance(event, Tested):
            self.tested = event
        elif isinstance(event, Finished):
            self.finished = event

    def say(self, text: str) -> None:
        """One line of talk, folded only where a terminal needs it."""
        self.console.print(Text(text), soft_wrap=not self.console.is_terminal)

    def farewell(self) -> None:
        """Where the run is, how well it does, what to type next."""
        end, folder = self.finished, self.job.task.folder
        if end is None:
            return
        in_the_usual_place = folder.path.parent == Path("checkpoints")
        run = folder.name if in_the_usual_place else folder.path
        if end.reason == "stopped":
            place = "" if in_the_usual_place else f" --checkpoints {folder.path.parent}"
            self.say(f"Stopped and saved at step {end.step:,}.")
            self.say(f"Go on with: charrnn train --resume --run {folder.name}{place}")
        if end.reason != "stopped" and not self.learnt:
            self.say(f"note: {describe_nothing_left(self.job, end.reason)}")
        if math.isfinite(end.best_nats):
            self.say(
                f"{folder.path}: {in_bits(end.best_nats):.3f} bits per character ({end.best_nats:.4f} nats)"
                f" on held-out text, best at step {end.best_step:,} of {end.step:,}, {clock(end.elapsed)}"
            )
            if self.tested is not None:
                nats = self.tested.nats
                self.say(f"{in_bits(nats):.3f} bits per character ({nats:.4f} nats) on the text kept back for a test")
            if self.job.task.says_no_more_than_frequencies(end.best_nats):
                self.say(f"note: {describe_nothing_learnt(self.job)}")
            if self.overfitted is not None:
                self.say(f"note: {describe_overfit(self.overfitted.overfit, self.job.task.config)}")
            self.say(f"Draw text with: charrnn sample {run}")


class PlainDisplay(Display):
    """Plain lines, for a log or a pipe."""

    def __init__(self, console: Console, job: Job):
        super().__init__(console, job)
        self._last = -math.inf

    def __enter__(self) -> "PlainDisplay":
        self.say(f"{self.job.task.folder.path}: {describe(self.job)}")
        for note in self.job.notes:
            self.say(f"note: {note}")
        return self

    def show(self, event: Any) -> None:
        """Print a line for what matters: every ten seconds of training, each validation and sample."""
        super().show(event)
        if isinstance(event, Trained) and event.elapsed - self._last >= _PLAIN_SECONDS:
            self._last = event.elapsed
            self.say(
                f"step {event.step} epoch {event.epoch:.2f} {event.spent:.0%} train {in_bits(event.loss):.3f} bits"
                f" ({event.loss:.4f} nats) {event.characters_per_second:,.0f} chars/s"
                f" gradient {event.gradient_norm:.2f} {clock(event.elapsed)}"
            )
        elif isinstance(event, Validated):
            self.say(
                f"step {event.step} epoch {event.epoch:.2f} validation {event.bits_per_character:.3f} bits"
                f" ({event.nats:.4f} nats){' best' if event.best else ''} {clock(event.elapsed)}"
            )
        elif isinstance(event, Slowed):
            self.say(_slowed(event))
        elif isinstance(event, Sampled):
            self.say(f"sample: {shown(event.text, True)[:200]!r}")


class LiveDisplay(Display):
    """A panel that renews itself: progress, both curves, speed, and the latest sample."""

    def __init__(self, console: Console, job: Job):
        super().__init__(console, job)
        self.trained: Trained | None = None
        self.validated: list[Validated] = []
        self.losses: list[float] = []
        self.held_out: list[float] = []
        self.sample: Sampled | None = None
        self.saved = ""
        self.working = True
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> "LiveDisplay":
        self.say(describe(self.job))
        for note in self.job.notes:
            self.say(f"note: {note}")
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.working = False
        self._live.__exit__(kind, error, at)

    def show(self, event: Any) -> None:
        """Take in one event; the panel draws itself from what is kept."""
        super().show(event)
        if isinstance(event, Trained):
            self.trained = event
            if math.isfinite(event.loss):
                self.losses.append(event.loss)
            if len(self.losses) > 4096:  # a long run's curve is thinned, so that drawing stays cheap
                self.losses = [(a + b) / 2 for a, b in zip(self.losses[::2], self.losses[1::2], strict=False)]
        elif isinstance(event, Validated):
            self.held_out.append(event.nats)
            self.validated = [event] if event.best or not self.validated else self.validated[:1]
        elif isinstance(event, Sampled):
            self.sample = event
        elif isinstance(event, Slowed):
            self.say(_slowed(event))
        elif isinstance(event, Saved):
            self.saved = f" · saved step {event.step:,}"

    def render(self) -> Group:
        """The panel as it stands."""
        return Group(self._progress(), self._curves(), self._figures(), *self._sample_panel(), *self._hint())

    def _progress(self) -> Table:
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        spent = self.trained.spent if self.trained else 0.0
        bar = ProgressBar(100, 100 * spent)
        if self.trained is None:
            left = "0% compiling"
        elif not self.job.task.config.training.has_budget:
            bar, left = ProgressBar(None, pulse=True), clock(self.trained.elapsed)
        else:
            left = f"{spent:.0%} {clock(self.trained.elapsed * (1 - spent) / max(spent, 1e-9))} left"
        row.add_row(Text(self.job.task.folder.name, "bold"), bar, left)
        return row

    def _curves(self) -> Table:
        table = Table.grid(expand=True, padding=(0, 1))
        for _ in range(2):
            table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True)
        width = max(8, self.console.width - 48)
        recent = self.losses[-10:]
        if recent:
            loss = sum(recent) / len(recent)
            table.add_row("training", _both_units(loss), Text(sparkline(self.losses, width), "cyan"))
        if self.held_out:
            table.add_row("validation", _both_units(self.held_out[-1]), Text(sparkline(self.held_out, width), "green"))
        return table

    def _figures(self) -> Text:
        if self.trained is None:
            return Text("")
        event = self.trained
        best = f" · best {self.validated[0].bits_per_character:.3f} bits" if self.validated else ""
        return Text(
            f"step {event.step:,} · epoch {event.epoch:.1f} · {event.characters_per_second:,.0f} chars/s"
            f" · gradient {event.gradient_norm:.2f}{best}{self.saved}",
            "dim",
        )

    def _sample_panel(self) -> list[Panel]:
        if self.sample is None:
            return []
        lines = Text(shown(self.sample.text, True)).wrap(self.console, max(10, self.console.width - 4))[:_SAMPLE_LINES]
        return [Panel(Text("\n").join(lines), title=f"sample at step {self.sample.step:,}", title_align="left")]

    def _hint(self) -> list[Text]:
        """A short last line, where the terminal has room for the ^C that it shows when that is pressed."""
        return [Text("Ctrl-C stops and saves", "dim", no_wrap=True, overflow="crop")] if self.working else []
