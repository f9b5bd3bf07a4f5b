"""Where a text's surprise lies, in a terminal: its lines, its characters, its colours."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby

import click
import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from charrnn.cli.glyphs import END, NEWLINE, glyph, joins, visible
from charrnn.scoring.details import Character, characters_of, lines_of
from charrnn.scoring.text import ReadyText
from charrnn.units import in_bits

LEVELS = ((1.0, ""), (2.0, "black on color(229)"), (4.0, "black on color(221)"), (7.0, "black on color(209)"),
          (math.inf, "bright_white on color(160)"))  # fmt: skip
"""Upper bounds in bits, and how a character below them looks."""

_ENDS = (END, NEWLINE)

_PIECE = 4096
"""Signs that are coloured at a time: a line may be as long as the text."""


def by_line(text: ReadyText, nats: np.ndarray, top: int | None, as_json: bool) -> None:
    """The lines, the oddest first: bits per character, total bits, number and text of each."""
    lines = lines_of(text, nats)
    order = np.argsort(-lines.nats / lines.characters, kind="stable")[:top]
    if not as_json:
        click.echo(" bits/char      bits     line  text", err=True)
    for number, start, stop, cost, characters in zip(*lines.take(order), strict=True):
        line = text.whole.text_at(np.arange(start, stop)).removesuffix("\n")
        bits = in_bits(float(cost))
        if as_json:
            facts = {"line": int(number), "bits_per_character": bits / int(characters), "bits": bits, "text": line}
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            click.echo(f"{bits / characters:10.3f}{bits:10.1f}{number:9,}  {_writable(visible(line))}")


def by_character(text: ReadyText, nats: np.ndarray, as_json: bool) -> None:
    """Every character in order: its bits, its probability, and itself."""
    if not as_json:
        click.echo("    bits  probability  character", err=True)
    for character in characters_of(text, nats):
        bits = in_bits(character.nats)
        if as_json:
            facts = {"character": character.text, "bits": bits, "end": not character.text}
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            click.echo(f"{bits:8.3f}{100 * math.exp(-character.nats):11.4f} %  {_writable(glyph(character.text))}")


def show(text: ReadyText, nats: np.ndarray, console: Console | None = None) -> None:
    """The text coloured by surprise; without colours, the bits of each character below it."""
    console = console or Console(highlight=False)
    plain = console.color_system is None or console.no_color
    signs = ((sign_of(cluster), bits_of(cluster)) for cluster in clusters(characters_of(text, nats)))
    if plain:
        for upper, lower in _rows(signs, console.width):
            click.echo(_writable(upper))
            click.echo(lower)
    else:
        for piece, ends in _pieces(signs):
            console.print(_coloured(piece), soft_wrap=True, end="\n" if ends else "")
    console.print(_legend(plain), soft_wrap=True)


def _pieces(signs: Iterable[tuple[str, float]]) -> Iterator[tuple[list[tuple[str, float]], bool]]:
    """Lines, the long ones in pieces, and whether a piece is its line's last; a line's end is one of its signs."""
    piece: list[tuple[str, float]] = []
    for sign, bits in signs:
        if len(piece) == _PIECE:
            yield piece, False
            piece = []
        piece.append((sign, bits))
        if sign in _ENDS:
            yield piece, True
            piece = []
    if piece:
        yield piece, True


def clusters(characters: Iterable[Character]) -> Iterator[list[Character]]:
    """Characters that are drawn as one: a base with its marks, a family of emoji."""
    cluster: list[Character] = []
    for character in characters:
        if cluster and not joins(cluster[-1].text, character.text):
            yield cluster
            cluster = []
        cluster.append(character)
    if cluster:
        yield cluster


def sign_of(cluster: list[Character]) -> str:
    """How characters that are drawn as one are shown."""
    first = cluster[0].text
    return (first if first == " " else glyph(first)) + "".join(character.text for character in cluster[1:])


def bits_of(cluster: list[Character]) -> float:
    """The surprise of all of them together."""
    return in_bits(sum(character.nats for character in cluster))


def _coloured(line: list[tuple[str, float]]) -> Text:
    text = Text()
    for level, run in groupby(line, key=lambda pair: level_of(pair[1])):
        signs = "".join(sign for sign, _ in run)
        text.append(_writable(signs), LEVELS[level][1] or None)
    return text


def level_of(bits: float) -> int:
    """Which of the levels a surprise belongs to."""
    return next(level for level, (bound, _) in enumerate(LEVELS) if bits < bound or bound == math.inf)


def _rows(signs: Iterable[tuple[str, float]], width: int) -> Iterator[tuple[str, str]]:
    """Pieces of lines that fit the width, each with a row of digits below it."""
    upper = lower = ""
    for sign, bits in signs:
        cells = cell_len(sign)
        if upper and cell_len(upper) + cells > width:
            yield upper, lower
            upper = lower = ""
        upper += sign
        lower += str(min(int(bits), 9)).ljust(cells)[:cells]
        if sign in _ENDS:
            yield upper, lower
            upper = lower = ""
    if upper:
        yield upper, lower


def _legend(plain: bool) -> Text:
    if plain:
        return Text("(below each character its surprise in bits, 9 for more)")
    legend, low = Text("bits: "), 0.0
    for bound, style in LEVELS:
        name = f" {low:g}+ " if bound == math.inf else f" <{bound:g} "
        legend.append(name, style or None)
        low = bound
    return legend


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written
