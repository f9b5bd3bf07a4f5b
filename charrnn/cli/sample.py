"""`charrnn sample`."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from charrnn.cli.options import (
    checkpoints_option,
    config_options,
    load_model,
    read_prompt,
    run_argument,
    shown,
    warn_of_unknown,
)
from charrnn.cli.output import is_file, output_to
from charrnn.cli.progress import Working
from charrnn.config import WIDEST_BEAM, SampleConfig, from_options
from charrnn.errors import ConfigError

_FEW = 1000
"""Of so many lines it is said how many are new, unasked."""

_FEW_DOCUMENTS = 1_000_000
"""And where the corpus has no more documents: each text is looked up among them all."""

_TRIES = 10
"""With --unique or --novel, at most so many texts are drawn for one that is wanted (and 100 more)."""


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
    show = {name: options.pop(name) for name in ("n", "no_echo", "unique", "novel", "novelty", "logprobs", "as_json")}
    beam = options.pop("beam")
    settings = {name: value for name, value in options.items() if value is not None}
    heats: list[float | None] = [0.0] if greedy else [*temperatures] if temperatures else [None]
    drops = {f"--{name}": show[name] for name in ("unique", "novel")}
    seeded = settings.get("seed") is not None
    _check_together(beam, {"--temp": temperatures, "--greedy": greedy, **drops, "--seed": seeded})
    for heat in heats:
        from_options(SampleConfig, settings | ({} if heat is None else {"temperature": heat}))
    text = _prompt(prompt, prompt_file)
    model = load_model(run, checkpoints)
    warn_of_unknown(model, text)
    for stop in settings.get("stop", ()):
        if model.unknown(stop):
            click.echo(f"warning: the model never draws {stop!r}, so --stop will not see it", err=True)
    out = None if out == Path("-") else out
    terminal = out is None and sys.stdout.isatty()
    seen = out is None and not is_file(sys.stdout)  # what is piped may end on the same terminal
    with output_to(out) as output:
        with Working("searching" if beam else "drawing") as bar:

            def write(text: str) -> None:
                if seen:
                    bar.clear(text)
                output(text)

            job = Job(model, text, beam, settings, write, bar, terminal=terminal, heats=len(heats), **show)
            for heat in heats if len(heats) > 1 else ():
                job.check(heat)  # before the first block is written
            for number, heat in enumerate(heats):
                if len(heats) > 1 and not show["as_json"]:
                    write(f"{chr(10) * bool(number)}--- temperature {heat:g} ---\n")
                job.draw(heat)
        job.talk()


def _check_together(beam: int | None, given: dict[str, Any]) -> None:
    """Refuse what makes no sense together, before anything is loaded."""
    useless = [flag for flag, value in given.items() if value]
    if beam and useless:
        raise ConfigError(f"--beam searches for the likeliest text; leave {useless[0]} out")
    if given["--greedy"] and given["--temp"]:
        raise ConfigError("--greedy is --temp 0: give one of them")


class Job:
    """What was asked for, and the texts drawn for it so far."""

    def __init__(
        self, model: Any, prompt: str, beam: int | None, settings: dict[str, Any], write: Callable[[str], None],
        bar: Working, *, heats: int, terminal: bool, n: int, no_echo: bool, unique: bool, novel: bool, novelty: bool,
        logprobs: bool, as_json: bool,
    ):  # fmt: skip
        self.model, self.prompt, self.beam, self.settings, self._write = model, prompt, beam, settings, write
        self.terminal, self.n, self.unique, self.novelty = terminal, n, unique, novelty
        self.logprobs, self.as_json, self.echo = logprobs, as_json, "" if no_echo else prompt
        self.lines = model.config.data.documents == "line"
        self.count_new = self.lines and not (novel or logprobs or as_json) and 1 < n <= _FEW
        self.texts: list[str] = []
        self.repeats = self.known = 0
        self.corpus = _corpus_of(model) if novel or novelty else None
        self.novel = novel
        self.whole = n != 1 or beam or unique or novel or logprobs or as_json
        self.bar = bar
        bar.expect(heats * (n if self.whole else settings.get("length", SampleConfig.length)))

    def check(self, heat: float | None) -> None:
        """Raise ConfigError where nothing can be drawn at this temperature."""
        self.model.stream(self.prompt, **self._settings(heat))

    def _settings(self, heat: float | None) -> dict[str, Any]:
        return self.settings if heat is None else self.settings | {"temperature": heat}

    def draw(self, heat: float | None) -> None:
        """Draw and write the texts of one temperature."""
        settings = self._settings(heat)
        if not self.whole:
            self._stream(settings)
            return
        for index, drawn in enumerate(self._wanted(settings)):
            self.bar.advance()
            if self.novelty or self.count_new:
                self.texts.append(drawn.text)
            if self.as_json:
                self._write(json.dumps(self._record(drawn, heat), ensure_ascii=False) + "\n")
            elif self.logprobs:
                self._write("\n" * bool(index) + _listed(drawn))
            else:
                between = "\n" if index and not self.lines else ""
                self._write(f"{between}{shown(self.echo + drawn.text, self.terminal)}\n")

    def _stream(self, settings: dict[str, Any]) -> None:
        stream, last, parts = self.model.stream(self.prompt, **settings), "", list[str]()
        try:
            first = next(stream, "")  # reading a long prompt takes its time, and the bar wants a line of its own
            for piece in chain([self.echo, first], stream):
                last = piece or last
                self._write(shown(piece, self.terminal))
                self.bar.advance(len(piece))
                if self.novelty:
                    parts.append(piece)
        except KeyboardInterrupt:
            if last and not last.endswith("\n"):
                self._write("\n")
            raise click.Abort from None
        if not last.endswith("\n"):
            self._write("\n")
        self.texts.append("".join(parts[1:]))

    def _wanted(self, settings: dict[str, Any]) -> Iterator[Any]:
        """The texts that are kept, `n` of them unless too many are dropped."""
        if self.beam:
            found = self.model.beam(self.prompt, self.beam, self.n, **settings)
            yield from found
            if len(found) < self.n:
                self.bar.clear("\n")
                click.echo(f"only {len(found)} of {self.n} texts: there are no others", err=True)
            return
        if not (self.unique or self.novel):
            yield from self.model.samples(self.prompt, self.n, **settings)
            return
        seen, kept = set[str](), 0
        for drawn in self._candidates(settings) if self.n else ():
            repeated, known = self.unique and drawn.text in seen, self._is_known(drawn.text)
            self.repeats, self.known = self.repeats + repeated, self.known + (known and not repeated)
            seen.add(drawn.text)
            if not (repeated or known):
                kept += 1
                yield drawn
            if kept == self.n:
                return
        if not self.n:
            return
        self.bar.clear("\n")
        click.echo(f"only {kept} of {self.n} texts: the others drawn were dropped", err=True)

    def _candidates(self, settings: dict[str, Any]) -> Iterator[Any]:
        """Texts to choose from: as many as are wanted, and only where those do not do more, drawn many at a time."""
        seed = None
        for drawn in self.model.samples(self.prompt, self.n, **settings):
            seed = drawn.seed
            yield drawn
        more = (_TRIES - 1) * self.n + 100
        yield from self.model.sampler.samples(self.prompt, more, {**settings, "seed": seed}, first=self.n)

    def _is_known(self, text: str) -> bool:
        if not self.novel:
            return False
        from charrnn.text.novelty import holds

        return holds(self.corpus, self.prompt + text)  # type: ignore[arg-type]

    def _record(self, drawn: Any, heat: float | None) -> dict[str, Any]:
        record = {**drawn.__dict__, "temperature": SampleConfig.temperature if heat is None else heat}
        if self.beam:
            record["temperature"] = None
        if not self.logprobs:
            del record["log_probabilities"]
        elif drawn.ended == "eos":
            record["end_log_probability"] = _of_the_end(drawn)
        return record

    def talk(self) -> None:
        """Say what was dropped and how new the texts are."""
        repeats, known = f"{self.repeats:,} repeats", f"{self.known:,} that stand in the corpus"
        if self.unique or self.novel:
            click.echo("dropped: " + ", ".join([repeats] * self.unique + [known] * self.novel), err=True)
        if self.count_new:
            self._say_how_many_are_new()
        if not self.novelty:
            return
        from charrnn.text.novelty import RUN, share_of_runs

        standing, runs = share_of_runs(self.corpus, self.texts)  # type: ignore[arg-type]
        if self.as_json:
            figures = {"runs": runs, "runs_in_corpus": standing, "share_in_corpus": standing / max(runs, 1)}
            self._write(json.dumps(figures) + "\n")
        share = f"{standing / runs:.1%} of {runs:,}" if runs else "none: no text has so many characters"
        click.echo(f"runs of {RUN} characters that stand in the corpus: {share}", err=True)

    def _say_how_many_are_new(self) -> None:
        from charrnn.text.corpus import find_prepared, holds_document

        data = self.model.config.data
        corpus = find_prepared(self.model.config.corpus_hash, data.documents, data.encoding, data.errors)
        if corpus is not None and len(corpus.spans) <= _FEW_DOCUMENTS:
            new = sum(not holds_document(corpus, self.prompt + text) for text in self.texts)
            click.echo(f"{new} of {len(self.texts)} are new: they do not stand in the corpus", err=True)


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


def _prompt(text: str | None, file: str | None) -> str:
    if file is None:
        return text or ""
    if text is not None:
        raise ConfigError("give --prompt or --prompt-file, not both")
    return read_prompt(file, f"--prompt-file {file}")
