"""`charrnn score`: how surprising a text is to a model, and where."""

import math
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import checkpoints_option, load_model
from charrnn.cli.progress import progress_bar
from charrnn.cli.stop import stop_when_terminated
from charrnn.errors import ConfigError, RunNotFoundError

_STDIN = "-"


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
@click.argument("file", required=False, metavar="[FILE|-]")
@checkpoints_option
@click.option(
    "--part",
    type=click.Choice(("train", "validation", "test")),
    help="Score a part of the run's own corpus instead of a file.",
)
@click.option(
    "--protocol",
    type=click.Choice(("stateful", "windows")),
    default="stateful",
    show_default=True,
    help="One pass with the state carried, or the mean over random cold-start windows of 256 characters.",
)
@click.option(
    "--windows",
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="How many windows --protocol windows reads.  [default: 1000]",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Seed of the windows.  [default: 0]")
@click.option(
    "--dynamic", is_flag=True, help="Also score while the model goes on learning what it reads (Krause 2018)."
)
@click.option(
    "--dynamic-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="How fast --dynamic learns.  [default: 0.0006]",
)
@click.option(
    "--dynamic-decay",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="How strongly --dynamic returns to the weights it came with.  [default: 0.001]",
)
@click.option(
    "--by",
    type=click.Choice(("line", "character")),
    help="The surprise of each line, the oddest first, or of each character in order.",
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="With --by line: only the N oddest.")
@click.option("--show", is_flag=True, help="The text itself, coloured by surprise.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PAGE",
    help="Write a page of the text coloured by surprise, the model's own guesses on hover.",
)
@click.option("--compare", nargs=2, metavar="TEXT TEXT", help="Which of two texts is likelier, and by what odds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: a text, or with --by a line or a character.")
@click.option("--encoding", metavar="NAME", help="The file's text encoding; the run's own when not given.")
@click.option(
    "--errors",
    type=click.Choice(("strict", "replace", "ignore")),
    help="What to do with bytes that are not text; as the run did when not given.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Read a long text as N streams side by side; 1 is exact. By size when not given.",
)
@click.option(
    "--precision",
    type=click.Choice(("auto", "float32", "bfloat16")),
    default="auto",
    show_default=True,
    help="Number format of the products; auto: that of drawing for one stream, else the fastest.",
)
def score(run: str | None, file: str | None, checkpoints: Path, **options: Any) -> None:
    """Say how surprising a text is to RUN: bits per character, nats, perplexity, bits per byte.

    The text is FILE, or the standard input where it is - or not given. Of one argument alone: where it
    names a run (or a weights file) the text comes from the standard input, else it is a file for the newest
    run. Documents are what they were to the run, and their ends are scored as in its validation.

    A text under 32,768 characters is read as one stream. A longer one is read as up to 128 streams side by
    side, each warmed up on the 512 characters before it.
    """
    _check(file, options)
    stop_when_terminated()  # so that temporary files go too
    run, file = _run_and_file(run, file, checkpoints, bool(options["compare"] or options["part"]))
    model = load_model(run, checkpoints)
    if options["compare"]:
        from charrnn.cli.score.compare import compare

        first, second = options["compare"]
        return compare(model, first, second, options["as_json"])
    if options["part"]:
        return _score_part(model, options)
    if file == _STDIN and sys.stdin.isatty():
        click.echo("type or paste a text; Ctrl-D ends it", err=True)
    return _score_file(model, file or _STDIN, options)


def _check(file: str | None, options: dict[str, Any]) -> None:
    """Refuse what makes no sense together, before anything is loaded."""
    views = [name for name in ("by", "show", "html") if options[name]]
    others = [*views, *(["dynamic"] if options["dynamic"] else [])]
    of_a_text = [name for name in ("encoding", "errors", "streams") if options[name]]
    if options["compare"] and (others or file or of_a_text or options["protocol"] == "windows"):
        raise ConfigError("--compare takes its two texts and nothing else to score")
    if options["compare"] and options["precision"] != "auto":
        raise ConfigError("--compare reads its texts as they would be drawn; leave --precision out")
    if options["part"] and (options["compare"] or file or options["encoding"] or options["errors"]):
        raise ConfigError(
            "--part scores the run's own corpus; give it without a file, --compare, --encoding and --errors"
        )
    if options["protocol"] == "windows" and others:
        raise ConfigError(f"--protocol windows gives one figure; --{others[0]} needs --protocol stateful")
    of_windows = next((name for name in ("windows", "seed") if options[name] is not None), None)
    if of_windows and options["protocol"] != "windows":
        raise ConfigError(f"--{of_windows} is for --protocol windows")
    if options["streams"] and options["protocol"] == "windows":
        raise ConfigError("--streams is for --protocol stateful")
    for name in ("dynamic_rate", "dynamic_decay"):
        if options[name] is not None and not math.isfinite(options[name]):
            raise ConfigError(f"--{name.replace('_', '-')} must be a finite number, not {options[name]}")
    if options["html"] and (options["streams"] or 1) > 1:
        raise ConfigError("--html reads the text as one stream; leave --streams out")
    if options["html"] == Path(_STDIN) and options["as_json"]:
        raise ConfigError("--html - writes the page to the standard output; leave --json out")
    if options["top"] and options["by"] != "line":
        raise ConfigError("--top is for --by line")
    if options["show"] and (options["by"] or options["as_json"]):
        raise ConfigError("--show writes the text itself; give it without --by and --json")
    if not options["dynamic"] and (options["dynamic_rate"] or options["dynamic_decay"] is not None):
        raise ConfigError("--dynamic-rate and --dynamic-decay are for --dynamic")


def _run_and_file(run: str | None, file: str | None, checkpoints: Path, needs_no_file: bool) -> tuple[str | None, str]:
    """Which argument is which: one alone is the run if it names one, else the file."""
    from charrnn.checkpoint import find_run

    if run is None or file is not None or needs_no_file:
        return run, file or _STDIN
    if run == _STDIN:
        return None, run
    try:
        find_run(run, checkpoints)
    except RunNotFoundError as error:
        if not Path(run).exists():
            raise RunNotFoundError(f"{run}: neither a file nor a run ({error})") from None
        return None, run
    return run, _STDIN


def _score_part(model: Any, options: dict[str, Any]) -> None:
    from charrnn.scoring.text import open_part

    with open_part(model.config, model.vocabulary, options["part"]) as text:
        _warn(text.unknown)
        _report(model, text, options)


def _score_file(model: Any, file: str, options: dict[str, Any]) -> None:
    from charrnn.scoring.text import open_text

    page = options["html"]
    if page and page.exists() and Path(file).exists() and page.samefile(file):
        raise ConfigError(f"--html {page}: this is the text itself, which the page would replace; give another name")
    with ExitStack() as stack:
        typed = file == _STDIN and sys.stdin.isatty()  # a bar would be drawn over it
        with nullcontext(lambda *_: None) if typed else progress_bar("reading") as reading:
            text = stack.enter_context(open_text(
                file, model.config, model.vocabulary, encoding=options["encoding"], errors=options["errors"],
                progress=reading,
            ))  # fmt: skip
        _warn(text.unknown)
        _report(model, text, options)


def _report(model: Any, text: Any, options: dict[str, Any]) -> None:
    from charrnn.cli.score import figures, html, views

    streams = 1 if options["html"] else min(options["streams"] or text.streams, len(text))
    precision = _precision(model, options["precision"], streams)
    if options["html"]:
        html.check_size(text)
    nats = None
    if options["by"] or options["show"]:
        from charrnn.scoring.protocols import surprise

        with progress_bar("scoring") as progress:
            nats = surprise(model.network, text, streams, precision, progress)
    facts = figures.facts_of(model, text, nats, streams, precision, options)
    if options["html"]:
        html.write(options["html"], model, text, facts, precision)
    if options["html"] == Path(_STDIN):
        click.echo(figures.one_line(facts), err=True)
        return
    if options["html"]:
        click.echo(f"{options['html']}: the text coloured by surprise", err=True)
    if nats is None:
        figures.echo(facts, options["as_json"])
    elif options["by"] == "line":
        views.by_line(text, nats, options["top"], options["as_json"])
    elif options["by"] == "character":
        views.by_character(text, nats, options["as_json"])
    else:
        views.show(text, nats)
    if nats is not None:
        click.echo(figures.one_line(facts), err=True)


def _precision(model: Any, asked: str, streams: int) -> str:
    """`auto` is that of drawing for one stream, which is read as text is drawn, and the fastest for many."""
    from charrnn.training.devices import resolve_precision

    return model.sampler.precision if asked == "auto" and streams == 1 else resolve_precision(asked)  # type: ignore[arg-type]


def _warn(unknown: dict[str, int]) -> None:
    """Name the characters that the model never learnt, the most frequent first."""
    if not unknown:
        return
    order = sorted(unknown, key=lambda character: -unknown[character])
    names = ", ".join(f"{character!r} ({unknown[character]:,})" for character in order[:8])
    more = f" and {len(order) - 8:,} others" if len(order) > 8 else ""
    click.echo(f"warning: the model never saw {names}{more}; scored as the unknown character", err=True)
