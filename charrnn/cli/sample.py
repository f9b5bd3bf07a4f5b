"""`charrnn sample`."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import checkpoints_option, config_options, load_model, run_argument, shown, warn_of_unknown
from charrnn.config import SampleConfig, from_options


@click.command()
@run_argument
@checkpoints_option
@click.option("--prompt", default="", metavar="TEXT", help="Text to go on from.")
@click.option("--n", type=click.IntRange(0), default=1, metavar="N", show_default=True, help="How many texts to draw.")
@click.option("--stop", metavar="TEXT", help="End a text before this appears.")
@click.option("--greedy", is_flag=True, help="The same as --temp 0.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a text, for programs.")
@config_options(SampleConfig)
def sample(
    run: str | None,
    checkpoints: Path,
    prompt: str,
    n: int,
    stop: str | None,
    greedy: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw new text from RUN (the newest when not given), until its end or --length.

    RUN is a name, a run folder or a model.safetensors file. One text is streamed as it is drawn;
    several are drawn side by side.
    """
    if greedy:
        options["temperature"] = 0.0
    from_options(SampleConfig, options)
    model = load_model(run, checkpoints)
    options = {name: value for name, value in options.items() if value is not None}
    warn_of_unknown(model, prompt)
    if as_json:
        for drawn in model.sample(prompt, n, stop, **options):
            click.echo(json.dumps(drawn.__dict__, ensure_ascii=False))
    elif n == 1:
        _stream(model, prompt, stop, options)
    else:
        _several(model, prompt, n, stop, options)


def _stream(model: Any, prompt: str, stop: str | None, options: dict[str, Any]) -> None:
    terminal = sys.stdout.isatty()
    click.echo(shown(prompt, terminal), nl=False)
    last = prompt
    try:
        for piece in model.stream(prompt, stop, **options):
            click.echo(shown(piece, terminal), nl=False)
            sys.stdout.flush()
            last = piece
    except KeyboardInterrupt:
        click.echo()
        raise click.Abort from None
    if not last.endswith("\n"):
        click.echo()


def _several(model: Any, prompt: str, n: int, stop: str | None, options: dict[str, Any]) -> None:
    samples = model.sample(prompt, n, stop, **options)
    terminal, lines = sys.stdout.isatty(), model.config.data.documents == "line"
    for index, drawn in enumerate(samples):
        if index and not lines:
            click.echo()
        click.echo(shown(prompt + drawn.text, terminal))
    if lines and samples:
        _say_how_many_are_new(model, [prompt + drawn.text for drawn in samples])


def _say_how_many_are_new(model: Any, texts: list[str]) -> None:
    from charrnn.text.corpus import find_prepared, holds_document

    data = model.config.data
    corpus = find_prepared(model.config.corpus_hash, data.documents, data.encoding, data.errors)
    if corpus is not None:
        new = sum(not holds_document(corpus, text) for text in texts)
        click.echo(f"{new} of {len(texts)} are new: they do not stand in the corpus", err=True)
