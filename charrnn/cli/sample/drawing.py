"""Drawing what `charrnn sample` was asked for, and writing it."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import click

from charrnn.cli.options import shown
from charrnn.cli.progress import Working
from charrnn.config import SampleConfig

_FEW = 1000
"""Of so many lines it is said how many are new, unasked."""

_FEW_DOCUMENTS = 1_000_000
"""And where the corpus has no more documents: each text is looked up among them all."""

_LONG_PROMPT = 10_000
"""Characters that take the model a moment to read."""

_TRIES = 10
"""With --unique or --novel, at most so many texts are drawn for one that is wanted (and 100 more)."""


@dataclass(frozen=True)
class Request:
    """What was asked for.

    blocks: for each block of texts the options of `SampleConfig` that were given. n: how many texts a block has.
    novelty: whether to say how new the texts are.
    """

    prompt: str
    blocks: tuple[dict[str, Any], ...]
    n: int
    beam: int | None
    no_echo: bool
    unique: bool
    novel: bool
    novelty: bool
    logprobs: bool
    as_json: bool

    @property
    def streams(self) -> bool:
        """Whether the text is shown as it is drawn: a single one that is shown as it is."""
        return self.n == 1 and not (self.beam or self.unique or self.novel or self.logprobs or self.as_json)

    @property
    def steps(self) -> int:
        """What a progress bar counts: characters of a stream, else texts."""
        each = self.blocks[0].get("length", SampleConfig.length) if self.streams else self.n
        return each * len(self.blocks)


def read(model: Any, request: Request) -> Any:
    """The prompt as the model has read it, seen as a bar where it is long.

    Raises ConfigError where some options leave nothing to draw, before a long prompt is read or a block written.
    """
    for settings in request.blocks if len(request.blocks) > 1 or len(request.prompt) > _LONG_PROMPT else ():
        model.stream(request.prompt, **settings)
    with Working("reading") as bar:
        return model.read(request.prompt, progress=bar.reach)


class Drawing:
    """The texts drawn for a request so far; `write` puts them out, and the bar moves meanwhile.

    beginning: the prompt, as the model has read it.
    """

    def __init__(
        self, model: Any, request: Request, beginning: Any, write: Callable[[str], None], bar: Working, terminal: bool
    ):
        self.model, self.request, self._beginning = model, request, beginning
        self._write, self._bar, self._terminal = write, bar, terminal
        self._echo = "" if request.no_echo else request.prompt
        self._lines = model.config.data.documents == "line"
        told = request.novel or request.logprobs or request.as_json
        self._count_new = self._lines and not told and 1 < request.n <= _FEW
        self._corpus = _corpus_of(model) if request.novel or request.novelty else None
        self._texts: list[str] = []
        self._repeats = self._known = 0
        bar.expect(request.steps)

    def run(self) -> None:
        """Draw and write every block."""
        blocks = self.request.blocks
        for number, settings in enumerate(blocks):
            if len(blocks) > 1 and not self.request.as_json:
                self._write(f"{chr(10) * bool(number)}--- temperature {settings['temperature']:g} ---\n")
            draw = self._stream if self.request.streams else self._draw
            draw(settings)

    def talk(self) -> None:
        """Say what was dropped and how new the texts are."""
        unique, novel = self.request.unique, self.request.novel
        repeats, known = f"{self._repeats:,} repeats", f"{self._known:,} that stand in the corpus"
        if unique or novel:
            click.echo("dropped: " + ", ".join([repeats] * unique + [known] * novel), err=True)
        if self._count_new:
            self._say_how_many_are_new()
        if self.request.novelty:
            self._say_how_new()

    def _draw(self, settings: dict[str, Any]) -> None:
        temperature = settings.get("temperature", SampleConfig.temperature)
        for index, drawn in enumerate(self._wanted(settings)):
            self._bar.advance()
            if self.request.novelty or self._count_new:
                self._texts.append(drawn.text)
            if self.request.as_json:
                self._write(json.dumps(self._record(drawn, temperature), ensure_ascii=False) + "\n")
            elif self.request.logprobs:
                self._write("\n" * bool(index) + _listed(drawn))
            else:
                between = "\n" if index and not self._lines else ""
                self._write(f"{between}{shown(self._echo + drawn.text, self._terminal)}\n")

    def _stream(self, settings: dict[str, Any]) -> None:
        stream, last, parts = self.model.stream(self.request.prompt, after=self._beginning, **settings), "", list[str]()
        try:
            first = next(stream, "")  # reading a long prompt takes its time, and the bar wants a line of its own
            for piece in chain([self._echo, first], stream):
                last = piece or last
                self._write(shown(piece, self._terminal))
                self._bar.advance(len(piece))
                if self.request.novelty:
                    parts.append(piece)
        except KeyboardInterrupt:
            if last and (self._terminal or not last.endswith("\n")):  # a terminal showed ^C after the last line
                self._write("\n")
            raise click.Abort from None
        if not last.endswith("\n"):
            self._write("\n")
        self._texts.append("".join(parts[1:]))

    def _wanted(self, settings: dict[str, Any]) -> Iterator[Any]:
        """The texts that are kept, `n` of them unless too many are dropped."""
        request = self.request
        if request.beam:
            found = self.model.beam(request.prompt, request.beam, request.n, self._beginning, **settings)
            yield from found
            if len(found) < request.n:
                self._warn(f"only {len(found)} of {request.n} texts: there are no others")
        elif request.unique or request.novel:
            yield from self._kept(settings)
        else:
            yield from self.model.samples(request.prompt, request.n, after=self._beginning, **settings)

    def _kept(self, settings: dict[str, Any]) -> Iterator[Any]:
        """Texts that are no repeats and stand nowhere in the corpus, whichever was asked for."""
        seen, kept, wanted = set[str](), 0, self.request.n
        for drawn in self._candidates(settings) if wanted else ():
            repeated, known = self.request.unique and drawn.text in seen, self._is_known(drawn.text)
            self._repeats, self._known = self._repeats + repeated, self._known + (known and not repeated)
            seen.add(drawn.text)
            if not (repeated or known):
                kept += 1
                yield drawn
            if kept == wanted:
                return
        if kept < wanted:
            self._warn(f"only {kept} of {wanted} texts: the others drawn were dropped")

    def _candidates(self, settings: dict[str, Any]) -> Iterator[Any]:
        """Texts to choose from: as many as are wanted, and only where those do not do more, drawn many at a time."""
        prompt, wanted, seed = self.request.prompt, self.request.n, None
        for drawn in self.model.samples(prompt, wanted, after=self._beginning, **settings):
            seed = drawn.seed
            yield drawn
        more = (_TRIES - 1) * wanted + 100
        options = {**settings, "seed": seed}
        yield from self.model.sampler.samples(prompt, more, options, first=wanted, after=self._beginning)

    def _is_known(self, text: str) -> bool:
        if not self.request.novel:
            return False
        from charrnn.text.novelty import holds

        return holds(self._corpus, self.request.prompt + text)  # type: ignore[arg-type]

    def _record(self, drawn: Any, temperature: float) -> dict[str, Any]:
        record = {**drawn.__dict__, "temperature": None if self.request.beam else temperature}
        if not self.request.logprobs:
            del record["log_probabilities"]
        elif drawn.ended in ("eos", "stop"):
            record["end_log_probability"] = _of_the_end(drawn)
        return record

    def _warn(self, what: str) -> None:
        self._bar.clear("\n")
        click.echo(what, err=True)

    def _say_how_new(self) -> None:
        from charrnn.text.novelty import RUN, share_of_runs

        standing, runs = share_of_runs(self._corpus, self._texts)  # type: ignore[arg-type]
        if self.request.as_json:
            figures = {"runs": runs, "runs_in_corpus": standing, "share_in_corpus": standing / runs if runs else None}
            self._write(json.dumps(figures) + "\n")
        share = f"{standing / runs:.1%} of {runs:,}" if runs else "none: no text has so many characters"
        click.echo(f"runs of {RUN} characters that stand in the corpus: {share}", err=True)

    def _say_how_many_are_new(self) -> None:
        from charrnn.text.corpus import find_prepared, holds_document

        data = self.model.config.data
        corpus = find_prepared(self.model.config.corpus_hash, data.documents, data.encoding, data.errors)
        if corpus is not None and len(corpus.spans) <= _FEW_DOCUMENTS:
            new = sum(not holds_document(corpus, self.request.prompt + text) for text in self._texts)
            click.echo(f"{new} of {len(self._texts)} are new: they do not stand in the corpus", err=True)


def _listed(drawn: Any) -> str:
    """A line for each character: it in quotes, and its log-probability; the end of the text is an empty one."""
    pairs = list(zip(drawn.text, drawn.log_probabilities, strict=True))
    if drawn.ended == "eos":
        pairs.append(("", _of_the_end(drawn)))
    return "".join(f"{json.dumps(character, ensure_ascii=False)}\t{nats:.4f}\n" for character, nats in pairs)


def _of_the_end(drawn: Any) -> float:
    return float(drawn.log_probability - math.fsum(drawn.log_probabilities))


def _corpus_of(model: Any) -> Any:
    from charrnn.parts import corpus_of

    return corpus_of(model.config)
