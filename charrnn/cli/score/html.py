"""A page of a text coloured by surprise: one file, no script, nothing fetched."""

import html
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from charrnn.cli.glyphs import END, NEWLINE, glyph, named
from charrnn.cli.progress import progress_bar
from charrnn.errors import ConfigError
from charrnn.scoring.details import Character, guesses_of
from charrnn.scoring.text import ReadyText

_LONGEST = 200_000
_GUESSES = 5
_MOST_BITS = 8

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.6 Georgia, serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem 11rem;
       color: light-dark(#1a1a1a, #e6e6e6); background: light-dark(#fffdf8, #16181c); }
h1 { font-size: 1.2rem; } p.facts, p.legend { font: .9rem/1.5 system-ui, sans-serif; opacity: .85; }
pre { font: 1rem/1.7 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
i { font-style: normal; border-radius: 2px; } i.n { opacity: .45; }
pre i:hover { outline: 2px solid currentColor; }
pre i:hover::after { content: attr(data-g); position: fixed; left: 0; right: 0; bottom: 0; z-index: 1;
  padding: .7rem 1.2rem; white-space: pre; font: .9rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; opacity: 1;
  color: light-dark(#1a1a1a, #e6e6e6); background: light-dark(#f0ece2, #24272d); border-top: 1px solid #8888; }
"""
_HEAT = "\n".join(
    f".s{level} {{ background: rgb(226 62 28 / {level / _MOST_BITS * 0.72:.2f}); }}" for level in range(_MOST_BITS + 1)
)


def check_size(text: ReadyText) -> None:
    """Raise ConfigError for a text too long for one page."""
    if len(text) > _LONGEST:
        raise ConfigError(
            f"--html takes at most {_LONGEST:,} characters and {text.name} has {len(text):,}; "
            "cut it, such as with head -c 200000"
        )


def write(path: Path, model: Any, text: ReadyText, facts: dict[str, Any]) -> None:
    """Write the page. Raises ConfigError when the file cannot be written."""
    try:
        with path.open("w", encoding="utf-8", errors="replace") as file, progress_bar("writing the page") as progress:
            characters = guesses_of(model.network, model.vocabulary, text, _GUESSES, model.sampler.precision)
            file.writelines(page(text.name, facts, _counted(characters, len(text), progress)))
    except OSError as error:
        raise ConfigError(f"--html {path}: cannot be written ({error.strerror})") from error


def _counted(characters: Iterable[Character], total: int, progress: Any) -> Iterator[Character]:
    for number, character in enumerate(characters, 1):
        yield character
        if number % 4096 == 0:
            progress(number, total)


def page(name: str, facts: dict[str, Any], characters: Iterable[Character]) -> Iterator[str]:
    """The page, piece by piece."""
    title = html.escape(f"{name}: {facts['bits_per_character']:.3f} bits per character")
    yield '<!doctype html>\n<html lang="und">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{title}</title>\n<style>{_STYLE}{_HEAT}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    yield (
        f'<p class="facts">{facts["characters"]:,} characters · {facts["nats_per_character"]:.4f} nats · '
        f"perplexity {facts['perplexity']:.3f} · {facts['unknown']:,} unknown</p>\n"
    )
    legend = "".join(f'<i class="s{level}"> {level} </i>' for level in range(_MOST_BITS + 1))
    yield f'<p class="legend">bits of surprise: {legend} and more. Point at a character to see what was expected.</p>\n'
    yield "<pre>"
    for character in characters:
        yield _element(character)
    yield "</pre>\n</body>\n</html>\n"


def _element(character: Character) -> str:
    """A character of the text, with what the model expected in its place."""
    bits = character.nats / math.log(2)
    sign = character.text if character.text == " " else glyph(character.text)
    kind = f"s{min(int(bits), _MOST_BITS)}" + (" n" if sign in (NEWLINE, END) else "")
    expected = html.escape(_expected(character, bits), quote=True).replace("\n", "&#10;")
    after = {NEWLINE: "\n", END: "\n"}.get(sign, "") if character.text in ("", "\n") else ""
    return f'<i class="{kind}" data-g="{expected}">{html.escape(sign)}</i>{after}'


def _expected(character: Character, bits: float) -> str:
    first = f"{_name(character.text)}  {bits:.2f} bits, {100 * math.exp(-character.nats):.2f} %"
    return "\n".join([first, *(f"{100 * share:7.2f} %  {_name(text)}" for text, share in character.guesses)])


def _name(text: str) -> str:
    words = named(text)
    return f"{glyph(text)} {words}" if words else glyph(text)
