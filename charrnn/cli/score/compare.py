"""Which of two texts is likelier: the homophone test of language models."""

import json
import math
from typing import Any

import click

from charrnn.cli.options import warn_of_unknown
from charrnn.errors import ConfigError
from charrnn.scoring.figures import Score


def compare(model: Any, first: str, second: str, as_json: bool) -> None:
    """Score two texts as whole documents of their own, and say which is likelier and by what odds."""
    if not first or not second:
        raise ConfigError("--compare needs two texts; one of them is empty")
    warn_of_unknown(model, first + second)
    scores = [model.score(text, end=model.config.documents_end) for text in (first, second)]
    difference = scores[1].bits - scores[0].bits
    if as_json:
        rows = [_facts(text, score) for text, score in zip((first, second), scores, strict=True)]
        likelier = None if difference == 0 else int(difference < 0)
        click.echo(json.dumps({"texts": rows, "likelier": likelier, "odds_bits": abs(difference)}, ensure_ascii=False))
        return
    from charrnn.cli.glyphs import visible

    for text, score in zip((first, second), scores, strict=True):
        click.echo(f"{score.bits:10.2f} bits  {score.bits_per_character:6.3f} a character  {visible(text)}")
    if difference == 0:
        click.echo("both are equally likely")
    else:
        click.echo(f"the {'first' if difference > 0 else 'second'} is likelier, {odds(abs(difference))} to 1")


def _facts(text: str, score: Score) -> dict[str, Any]:
    return {
        "text": text, "bits": score.bits, "bits_per_character": score.bits_per_character,
        "characters": score.characters, "unknown": score.unknown,
    }  # fmt: skip


def odds(bits: float) -> str:
    """Two to the power of `bits`, as people read it."""
    digits = bits * math.log10(2)
    if digits >= 15:
        return f"10^{digits:.0f}"
    value = 2.0**bits
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
