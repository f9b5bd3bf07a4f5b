"""`charrnn sample`."""

import sys
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import (
    checkpoints_option,
    config_options,
    load_model,
    read_prompt,
    run_argument,
    warn_of_unknown,
)
from charrnn.cli.output import is_file, output_to
from charrnn.cli.progress import Working
from charrnn.cli.sample.drawing import Drawing, Request, read
from charrnn.config import WIDEST_BEAM, SampleConfig, from_options
from charrnn.errors import ConfigError


def _temperatures(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number, nor several with commas between them") from None


@click.command()
@run_argument
@checkpoints_option
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option("--prompt-file", metavar="FILE", help="The same from a file, to the letter; - is the standard input.")
@click.option("--no-echo", is_flag=True, help="Leave the prompt out of the output.")
@click.option("--n", type=click.IntRange(0), default=1, metavar="N", show_default=True, help="How many texts to draw.")
@click.option(
    "--temp", "--temperature", "temperatures", metavar="X[,X...]", callback=_temperatures,
    help="0 always takes the likeliest character; higher is wilder. Several draw a block each.  "
         "[default: 0.8; 0<=x<=1e+09]",
)  # fmt: skip
@click.option("--greedy", is_flag=True, help="The same as --temp 0.")
@click.option(
    "--beam", type=click.IntRange(1, WIDEST_BEAM), metavar="N", help="Search for the likeliest text with N beams."
)
@click.option("--unique", is_flag=True, help="Drop texts that were drawn before, and draw others.")
@click.option("--novel", is_flag=True, help="Drop texts that stand in the corpus, and draw others.")
@click.option("--novelty", is_flag=True, help="Say what share of the texts' runs of 20 characters the corpus has.")
@click.option("--logprobs", is_flag=True, help="A line for each character with its log-probability in nats.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a text, for programs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to a file; - is the standard output.",
)
@config_options(SampleConfig, leave_out=("temperature",))
def sample(
    run: str | None,
    checkpoints: Path,
    temperatures: list[float] | None,
    greedy: bool,
    prompt: str | None,
    prompt_file: str | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Draw new text from RUN (the newest when not given), until its end or --length.

    RUN is a name, a run folder or a model.safetensors file. One text is streamed as it is drawn;
    several are drawn side by side.

    Each character is drawn by these in turn: first what may not be drawn (--allow, --forbid,
    --ignore-eos, --regex, --min-length, --no-repeat), then --repeat-penalty, --temp, --top-k, --top-p,
    --min-p, each on what the one before left.
    """
    flags = {name: options.pop(name) for name in ("no_echo", "unique", "novel", "novelty", "logprobs", "as_json")}
    n, beam = options.pop("n"), options.pop("beam")
    settings = {name: value for name, value in options.items() if value is not None}
    drops = {f"--{name}": flags[name] for name in ("unique", "novel")}
    seeded = settings.get("seed") is not None
    _check_together(beam, {"--temp": temperatures, "--greedy": greedy, **drops, "--seed": seeded})
    heats = [0.0] if greedy else temperatures or []
    blocks = tuple(settings | {"temperature": heat} for heat in heats) or (settings,)
    for block in blocks:
        from_options(SampleConfig, block)
    request = Request(_prompt(prompt, prompt_file), blocks, n, beam, **flags)
    model = load_model(run, checkpoints)
    warn_of_unknown(model, request.prompt)
    for stop in settings.get("stop", ()):
        if model.unknown(stop):
            click.echo(f"warning: the model never draws {stop!r}, so --stop will not see it", err=True)
    out = None if out == Path("-") else out
    seen = out is None and not is_file(sys.stdout)  # what is piped may end on the same terminal
    with output_to(out) as output:
        beginning = read(model, request)
        with Working("searching" if beam else "drawing") as bar:

            def write(text: str) -> None:
                if seen:
                    bar.clear(text)
                output(text)

            drawing = Drawing(model, request, beginning, write, bar, terminal=out is None and sys.stdout.isatty())
            drawing.run()
        drawing.talk()


def _check_together(beam: int | None, given: dict[str, Any]) -> None:
    """Refuse what makes no sense together, before anything is loaded."""
    useless = [flag for flag, value in given.items() if value]
    if beam and useless:
        raise ConfigError(f"--beam searches for the likeliest text; leave {useless[0]} out")
    if given["--greedy"] and given["--temp"]:
        raise ConfigError("--greedy is --temp 0: give one of them")


def _prompt(text: str | None, file: str | None) -> str:
    if file is None:
        return text or ""
    if text is not None:
        raise ConfigError("give --prompt or --prompt-file, not both")
    return read_prompt(file, f"--prompt-file {file}")
