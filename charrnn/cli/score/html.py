"""A page of a text coloured by surprise: one file that fetches nothing. Only its keys need the little script."""

import html
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from charrnn.cli.glyphs import END, NEWLINE, bar, glyph, named
from charrnn.cli.options import describe
from charrnn.cli.progress import progress_bar
from charrnn.cli.score.views import bits_of, clusters, sign_of
from charrnn.errors import ConfigError
from charrnn.scoring.details import Character, guesses_of
from charrnn.scoring.text import ReadyText
from charrnn.units import in_bits

_LONGEST = 200_000
_GUESSES = 5
_MOST_BITS = 8
_BAR = 12

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #e8e6e3); --paper: light-dark(#fffdf8, #16181c);
  --faint: light-dark(#6b6660, #9a9aa2); --panel: light-dark(#f3efe6, #22252b); --mono: ui-monospace, "SF Mono",
  "DejaVu Sans Mono", "Noto Sans Mono", monospace; }
* { box-sizing: border-box; }
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
main { max-width: 50rem; margin: 0 auto; padding: 2.5rem 1.25rem 12rem; }
h1 { margin: 0; font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }
.figure { margin: .2rem 0 0; font-size: 1.05rem; } .figure strong { font-size: 2.4rem; line-height: 1.2; }
.facts, .legend { margin: .4rem 0; font-size: .875rem; color: var(--faint); }
.scale { display: flex; max-width: 27rem; margin: 1.2rem 0 .4rem; padding: 0; list-style: none; font-size: .8rem;
  border: 1px solid #8885; border-radius: 4px; overflow: hidden; color: var(--ink); }
.scale li { flex: 1; text-align: center; padding: .2rem 0; }
pre { margin: 2rem 0 0; font: 1.05rem/1.75 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: plaintext; text-align: start; }
i { font-style: normal; border-radius: 3px; cursor: default; } i.n { color: light-dark(#0007, #fff8); }
pre i { scroll-margin: 4rem 0 12rem; }
pre i:hover, pre i:focus { outline: 2px solid var(--ink); outline-offset: 1px; position: relative; }
footer, pre i:hover::after, pre i:focus::after { position: fixed; inset: auto 0 0 0; min-height: 10.5rem;
  padding: .8rem max(1.25rem, calc(50vw - 23.75rem)); color: var(--ink); background: var(--panel);
  border-top: 1px solid #8885; font: .9rem/1.5 var(--mono); white-space: pre; overflow: hidden; }
footer { font-family: inherit; color: var(--faint); white-space: normal; }
pre i:focus::after, pre i:hover::after { content: attr(data-g); direction: ltr; text-align: left; z-index: 1;
  pointer-events: none; }
pre i:hover::after { z-index: 2; }
kbd { font: inherit; border: 1px solid #8886; border-radius: 3px; padding: 0 .3em; }
"""
_HEAT = "\n".join(
    f".s{level} {{ background: rgb(226 62 28 / {level / _MOST_BITS * 0.72:.2f}); }}" for level in range(_MOST_BITS + 1)
)
_SCRIPT = """
const text = document.querySelector("pre"), middle = (one) => one.offsetTop + one.offsetHeight / 2;
const beside = (a, b) => a && b && Math.abs(middle(a) - middle(b)) < 12;
const mark = (one) => { if (!one) return; text.querySelector("[tabindex]").removeAttribute("tabindex");
  one.tabIndex = 0; one.focus({ preventScroll: true }); one.scrollIntoView({ block: "nearest" }); };
const row = (here, way) => { let one = here[way], best = null;
  while (beside(one, here)) one = one[way];
  for (const first = one; beside(one, first); one = one[way])
    if (!best || Math.abs(one.offsetLeft - here.offsetLeft) < Math.abs(best.offsetLeft - here.offsetLeft)) best = one;
  return best; };
const odd = (here, way) => { let one = here[way];
  while (one && one.className[1] < 6) one = one[way];
  return one; };
text.addEventListener("click", (event) => mark(event.target.closest("i")));
text.addEventListener("keydown", (event) => {
  const here = event.target, next = "nextElementSibling", last = "previousElementSibling";
  const left = beside(here, here[next]) && here[next].offsetLeft < here.offsetLeft;
  const moves = { ArrowRight: () => here[left ? last : next], ArrowLeft: () => here[left ? next : last],
    ArrowDown: () => row(here, next), ArrowUp: () => row(here, last),
    n: () => odd(here, next), p: () => odd(here, last) };
  if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault(); mark(moves[event.key]()); });
"""
_HINT = (
    "Point at a character, or tap it, to see what was expected in its place. With the keyboard: <kbd>Tab</kbd>, then "
    "the arrow keys; <kbd>n</kbd> and <kbd>p</kbd> go to the next and the previous great surprise."
)


def check_size(text: ReadyText) -> None:
    """Raise ConfigError for a text too long for one page."""
    if len(text) > _LONGEST:
        raise ConfigError(
            f"--html takes at most {_LONGEST:,} characters and {text.name} has {len(text):,}; "
            "cut it, such as with head -n 1000"
        )


def write(path: Path, model: Any, text: ReadyText, facts: dict[str, Any], precision: str) -> None:
    """Write the page; a path of - is the standard output. A character's surprise is that of one stream in `precision`.

    Raises ConfigError when the file cannot be written.
    """
    try:
        with (
            click.open_file(str(path), "w", encoding="utf-8", errors="replace") as file,
            progress_bar("writing the page") as progress,
        ):
            characters = guesses_of(model.network, model.vocabulary, text, _GUESSES, precision)
            file.writelines(page(text.name, describe(model), facts, _counted(characters, len(text), progress)))
    except BrokenPipeError:  # what reads it has seen enough
        raise
    except OSError as error:
        raise ConfigError(f"--html {path}: cannot be written ({error.strerror})") from error


def _counted(characters: Iterable[Character], total: int, progress: Any) -> Iterator[Character]:
    for number, character in enumerate(characters, 1):
        yield character
        if number % 4096 == 0:
            progress(number, total)


def page(name: str, model: str, facts: dict[str, Any], characters: Iterable[Character]) -> Iterator[str]:
    """The page, piece by piece."""
    bits = f"{facts['bits_per_character']:.3f}"
    yield '<!doctype html>\n<html lang="und">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{html.escape(name)}: {bits} bits per character</title>\n<style>{_STYLE}{_HEAT}\n</style>\n"
    yield f"</head>\n<body>\n<main>\n<h1>{html.escape(name)}</h1>\n"
    yield f'<p class="figure"><strong>{bits}</strong> bits per character</p>\n'
    unknown = f" · {facts['unknown']:,} unknown to the model" if facts["unknown"] else ""
    yield (
        f'<p class="facts">{facts["characters"]:,} characters{unknown} · {facts["nats_per_character"]:.4f} nats '
        f"per character · perplexity {facts['perplexity']:.3f} · read by {html.escape(model)}</p>\n"
    )
    levels = "".join(
        f'<li class="s{level}">{level}{"+" * (level == _MOST_BITS)}</li>' for level in range(_MOST_BITS + 1)
    )
    yield f'<ul class="scale" aria-label="bits of surprise">{levels}</ul>\n'
    yield '<p class="legend">Bits of surprise: 0 was certain, 1 a toss of a coin, 8 one chance in 256.</p>\n<pre>'
    for number, cluster in enumerate(clusters(characters)):
        yield _element(cluster, " tabindex=0" * (number == 0))
    yield f"</pre>\n</main>\n<footer>{_HINT}</footer>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _element(cluster: list[Character], attribute: str) -> str:
    """Characters drawn as one, coloured by their surprise together, with what the model expected in their place."""
    first, bits, sign = cluster[0].text, bits_of(cluster), sign_of(cluster)
    kind = f"s{min(int(bits), _MOST_BITS)}" + (" n" if sign in (NEWLINE, END) and first in ("", "\n") else "")
    expected = html.escape(_expected(cluster), quote=True).replace("\n", "&#10;")
    after = "\n" if first in ("", "\n") else ""
    return f'<i class="{kind}" data-g="{expected}"{attribute}>{html.escape(sign)}</i>{after}'


def _expected(cluster: list[Character]) -> str:
    """A line for each character, and the guesses in place of the one that surprised most.

    A sign comes after its figures: before them, one that is written from right to left would reorder them.
    """
    own = [
        f"{in_bits(character.nats):6.2f} bits {_row(math.exp(-character.nats), '', character.text)}"
        for character in cluster
    ]
    guesses = max(cluster, key=lambda character: character.nats).guesses
    others = [
        f"{'' if number else 'expected':11} {_row(share, bar(share, _BAR), text)}"
        for number, (text, share) in enumerate(guesses)
    ]
    return "\n".join(own + others)


def _row(share: float, length: str, text: str) -> str:
    return f"{100 * share:6.2f} %  {length:{_BAR}}  {glyph(text)} {named(text)}".rstrip()
