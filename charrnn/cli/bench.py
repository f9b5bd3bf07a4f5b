"""`charrnn bench`: looking at how the cells behave."""

import json
import math
from pathlib import Path
from typing import Any

import click

from charrnn.cli.glyphs import columns
from charrnn.cli.options import begin_computing, checkpoints_option
from charrnn.cli.progress import Working
from charrnn.config import ModelConfig
from charrnn.errors import CharrnnError, ConfigError
from charrnn.fields import value_types

_DECADES = 8
_GROWN = 10


@click.group()
def bench() -> None:
    """Measure how the recurrent cells behave."""


@bench.command()
@click.option("--cell", "cells", multiple=True, type=click.Choice(value_types(ModelConfig)["cell"][1]),
              help="A cell to measure; may be given more than once.  [default: all]")  # fmt: skip
@click.option(
    "--train",
    "steps",
    type=click.IntRange(1, 100_000),
    metavar="STEPS",
    help="Let each cell learn the bundled fables for so many steps, and show it before and after.",
)
@click.option("--run", "runs", multiple=True, metavar="RUN", help="A trained run to set beside them; may be repeated.")
@click.option("--hidden", type=click.IntRange(1, 4096), default=128, show_default=True, metavar="N",
              help="Hidden units of the cells.")  # fmt: skip
@click.option("--distance", type=click.IntRange(2, 10_000), default=256, show_default=True, metavar="N",
              help="The longest distance, in characters.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, metavar="N",
              help="Seed of the weights and the characters.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Draw a picture too (.png, .svg, .pdf); needs the plot extra.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a cell, for programs.")
@checkpoints_option
def gradients(
    cells: tuple[str, ...], steps: int | None, runs: tuple[str, ...], hidden: int, distance: int, seed: int,
    plot: Path | None, as_json: bool, checkpoints: Path,
) -> None:  # fmt: skip
    """Show how a gradient fades or grows with distance, which is why gates exist.

    A gradient of norm 1 at the last character is carried back through time; the bars are its norm
    so many characters earlier. A cell in which it vanishes cannot learn what lies farther back.
    Untrained cells read random characters; a RUN, and a cell with --train, reads text that it draws itself.
    """
    if plot:
        _check_plot(plot)
    from charrnn.gradients import all_cells, at_initialisation
    from charrnn.model import load

    begin_computing()
    wanted = cells or (() if runs and steps is None else all_cells())
    models = [load(run, checkpoints) for run in runs]
    reaches = list[Any]()
    with Working("measuring") as bar:
        bar.expect(len(wanted) + len(models))
        for cell in wanted:
            if steps is None:
                reaches.append(at_initialisation(cell, hidden, distance, seed))
            else:
                reaches += _before_and_after(_trained(cell, hidden, steps, seed), cell, distance, seed)
            bar.advance()
        for name, model in zip(runs, models, strict=True):
            reaches += _before_and_after(model, f"{name} ({model.config.model.cell})", distance, seed)
            bar.advance()
    if as_json:
        for reach in reaches:
            norms, half_life = [_finite(norm) for norm in reach.norms], _finite(reach.half_life)
            facts = {"name": reach.name, "distances": reach.distances, "norms": norms, "half_life": half_life}
            click.echo(json.dumps(facts))
    else:
        _show(reaches)
    if plot:
        _draw(reaches, plot)


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if math.isfinite(number) else None


def _trained(cell: str, hidden: int, steps: int, seed: int) -> Any:
    """A cell that has learnt the fables for so many steps."""
    import tempfile

    from charrnn.text.bundled import corpora_folder
    from charrnn.trainer import train

    fables = corpora_folder() / "fables.txt"
    with tempfile.TemporaryDirectory() as folder:
        return train(
            fables, checkpoints=folder, documents="paragraph", cell=cell, hidden_size=hidden, steps=steps, seed=seed
        )


def _before_and_after(model: Any, label: str, distance: int, seed: int) -> list[Any]:
    """A network with fresh weights and with those it learnt, reading text that it draws itself."""
    import numpy as np

    from charrnn.gradients import of_network
    from charrnn.nn.network import create

    samples = model.sample(n=8, length=2 * distance, ignore_eos=True, seed=seed, temperature=1.0)
    ids = np.stack([model.vocabulary.encode(sample.text) for sample in samples], -1)
    fresh = create(model.config.model, model.vocabulary.size, model.config.training.seed)
    return [
        of_network(fresh, ids, distance, f"{label} untrained", seed),
        of_network(model.network, ids, distance, f"{label} trained", seed),
    ]


def _show(reaches: list[Any]) -> None:
    """A table with a bar of the norm's logarithm at every distance."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)  # a run may be named `[red]` or `:cat:`
    longest_name = max(columns(reach.name) for reach in reaches)
    first_column = min(longest_name, console.width // 2)  # a longer name takes several lines
    shown = range(len(reaches[0].distances))
    while len(shown) > 1 and first_column + 7 * len(shown) + 11 > console.width:
        shown = shown[len(shown) % 2 == 0 :: 2]  # every other, the last always
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", overflow="fold")
    for k in shown:
        table.add_column(f"{reaches[0].distances[k]:,}", justify="right", no_wrap=True)
    table.add_column("halves in", justify="right", no_wrap=True)
    for reach in reaches:
        half_life = reach.half_life
        halves = f"{half_life:,.1f}" if 0 <= half_life < 1e6 else "never" if half_life > 0 else "it grows"
        table.add_row(reach.name, *(_figure(reach.norms[k]) for k in shown), halves)
    console.print("Norm of the gradient so many characters back (it is 1 at the last):")
    console.print(table)
    console.print(f"\nThe same from 1 down to 1e-{_DECADES}, a character a distance (▲ is above {_GROWN}):")
    for reach in reaches:
        indent = " " * (longest_name - columns(reach.name))
        console.print(f"{indent}{reach.name} {_bars(reach.norms)}", soft_wrap=True)


def _figure(norm: float) -> str:
    return f"{norm:.2f}" if 0.01 <= norm < 100 else f"{norm:.0e}"


def _bars(norms: tuple[float, ...]) -> str:
    """A bar for each norm: full at 1, empty at 10 to the power of -_DECADES."""

    def bar(norm: float) -> str:
        share = max(0.0, 1 + math.log10(max(norm, 1e-300)) / _DECADES)
        return "▲" if norm > _GROWN else "▁▂▃▄▅▆▇█"[min(7, int(share * 8))] if share else "·"

    return "".join(map(bar, norms))


def _check_plot(path: Path) -> None:
    """Refuse before the work what the picture could not be written for."""
    import importlib.util

    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--plot {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no such folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs Matplotlib; install it beside charrnn: pip install matplotlib")


def _draw(reaches: list[Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for k, reach in enumerate(reaches):
        axes.plot(reach.distances, reach.norms, marker="o", markersize=3, linestyle=("-", "--", ":")[k // 10 % 3],
                  label=reach.name)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="characters back", ylabel="norm of the gradient")
    axes.set_ylim(bottom=10.0 ** -(2 * _DECADES))
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)  # a run's name may have dollars
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise CharrnnError(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(f"drew {path}", err=True)
