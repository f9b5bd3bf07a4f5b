"""`charrnn next`: what the model expects after a text."""

import json
import shutil
from pathlib import Path
from typing import Any

import click

from charrnn.cli.glyphs import bar, columns, fitted, glyph, named
from charrnn.cli.options import checkpoints_option, load_model, read_prompt, warn_of_unknown
from charrnn.cli.progress import progress_bar
from charrnn.config import SampleConfig, from_options
from charrnn.errors import ConfigError


@click.command("next")
@click.argument("prompts", nargs=-1, metavar="[PROMPT|-]")
@click.option(
    "--run", metavar="RUN", help="The run to ask: a name, a folder or a weights file; the newest when not given."
)
@checkpoints_option
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Show the N likeliest.")
@click.option(
    "--temp",
    "--temperature",
    "temperature",
    type=float,
    default=1.0,
    metavar="X",
    help="The distribution as --temp of sample makes it; 1 is the model's own.  [default: 1; 0<=x<=1e+09]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a character, for programs.")  # fmt: skip
def next_(
    prompts: tuple[str, ...], run: str | None, checkpoints: Path, top: int, temperature: float, as_json: bool
) -> None:
    """Show which characters may come next after PROMPT, as bars.

    Without PROMPT: how a text may begin. With -: after the text on the standard input, but for the line break
    that ends it.
    """
    from_options(SampleConfig, {"temperature": temperature})
    if len(prompts) > 1:
        raise ConfigError(f"PROMPT is one text, in quotes where it has blanks; a run is given as --run {prompts[0]}")
    prompt = prompts[0] if prompts else ""
    model = load_model(run, checkpoints)
    from charrnn.checkpoint import list_runs

    if prompt == "-":
        prompt = read_prompt("-", "-").removesuffix("\n").removesuffix("\r")
    warn_of_unknown(model, prompt)
    if run is None and prompt in [one.name for one in list_runs(checkpoints)]:
        click.echo(f"note: {prompt!r} is the text here; for the run of that name give --run {prompt}", err=True)
    with progress_bar("reading") as progress:
        reader = model.reader().follow(prompt, progress)
    guesses = reader.characters(top, temperature)
    if as_json:
        for guess in guesses:
            facts = {"character": guess.text, "probability": guess.probability, "end": guess.ends}
            click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for line in bars(guesses, shutil.get_terminal_size().columns):
        click.echo(line)


def bars(guesses: list[Any], width: int) -> list[str]:
    """A line for each guess: its sign, its share, and a bar as long as the share."""
    names = [f"{glyph(guess.text)} {named(guess.text)}".strip() for guess in guesses]
    column = max(map(columns, names))
    room = max(8, width - column - 12)
    greatest = max(guess.probability for guess in guesses)
    lines = []
    for name, guess in zip(names, guesses, strict=True):
        line = f"{fitted(name, column)} {100 * guess.probability:7.2f} % {bar(guess.probability / greatest, room)}"
        lines.append(line.rstrip())
    return lines
