"""Texts drawn from a model: options become filters, ids become texts."""

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from charrnn.config import WIDEST_BEAM, ModelConfig, SampleConfig, from_options
from charrnn.errors import ConfigError
from charrnn.generation import beam, decode
from charrnn.generation.constraints import Along, MinLength, RepeatPenalty, Stop
from charrnn.generation.decode import Beginning
from charrnn.generation.filters import Filter, Forbid, Greedy, MinP, Temperature, TopK, TopP
from charrnn.generation.prepared import Plan, Prepared, plan_for, shape_for
from charrnn.generation.repeats import NoRepeat
from charrnn.generation.texts import Piece, pieces, whole
from charrnn.text import automaton
from charrnn.text.vocabulary import EOS, UNK, Vocabulary
from charrnn.training.devices import resolve_precision

_WIDE = 128
"""From so many hidden units on, many texts are drawn a third faster in bfloat16, one text up to a quarter slower."""

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""

_MOST_TEXTS = 2**31 - 2**10
"""Texts have numbers below this: those that a row may begin next are still 32 bit integers."""


@dataclass(frozen=True)
class Sample:
    """A drawn text.

    text: without the prompt; ids: its characters'. log_probabilities: theirs under the model at
    temperature 1, in nats; log_probability: of all that was drawn, the end of the text or the stop
    included. ended: "eos", "length" or "stop". seed: draws the same text again with `row` as its number
    (None: found by a search).
    """

    text: str
    prompt: str
    log_probability: float
    ended: str
    seed: int | None
    row: int
    ids: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sampler:
    """What draws from a network: its weights made ready, and its vocabulary. plans: those made so far, by shape."""

    prepared: Prepared
    vocabulary: Vocabulary
    precision: str
    plans: dict[tuple[int, int], Plan] = field(default_factory=dict, repr=False, compare=False)

    def samples(
        self, prompt: str, n: int, options: dict[str, Any], first: int = 0, after: Beginning | None = None
    ) -> Iterator[Sample]:
        """Draw texts number `first` to before `first + n`, in that order. Raises ConfigError at once."""
        if n < 0:
            raise ConfigError(f"--n must be at least 0, not {n}")
        config, seed = sample_config(options)
        drawn = whole(self._pieces(prompt, config, seed, n, first, after), first)
        return (self._sample(piece, prompt, config.stop, seed) for piece in drawn)

    def read(self, prompt: str, after: Beginning | None = None, progress: Progress | None = None) -> Beginning:
        """Read a prompt; of one that begins with what was read before the rest alone."""
        return decode.read(self.prepared, self.vocabulary.encode(prompt), self.precision, after, progress)

    def stream(self, prompt: str, row: int, options: dict[str, Any], after: Beginning | None = None) -> "Stream":
        """Draw text number `row` piece by piece. Raises ConfigError at once."""
        config, seed = sample_config(options)
        return Stream(self._pieces(prompt, config, seed, 1, row, after), self.vocabulary, config.stop)

    def beam(
        self, prompt: str, width: int, n: int, options: dict[str, Any], after: Beginning | None = None
    ) -> list[Sample]:
        """The `n` best continuations that a search of that width finds, by their mean log-probability a character.

        Of those that differ in nothing but the stop they ended at, it is the best.
        """
        if not 1 <= width <= WIDEST_BEAM:
            raise ConfigError(f"--beam must be from 1 to {WIDEST_BEAM:,}, not {width:,}")
        if n < 0:
            raise ConfigError(f"--n must be at least 0, not {n}")
        if n > width:
            raise ConfigError(f"--beam {width} finds at most {width} texts, not --n {n}")
        config, _ = sample_config({"temperature": 0.0, **options})
        useless = {"temperature", "top_k", "top_p", "min_p", "repeat_penalty"}
        for option in dataclasses.fields(SampleConfig):
            if option.name in useless and options.get(option.name) not in (None, option.default):
                flag = option.metadata["flag"] or "--" + option.name.replace("_", "-")
                raise ConfigError(f"--beam searches for the likeliest text; leave {flag} out")
        filters = filters_for(config, self.vocabulary, prompt)[:-1]  # all but Greedy
        ids = self.vocabulary.encode(prompt)
        found = beam.search(
            self.prepared, ids, filters, width=width, length=config.length, precision=self.precision, after=after
        ) if config.length else []  # fmt: skip
        distinct: dict[str, Sample] = {}
        for one in found:
            sample = self._sample(_as_piece(len(distinct), one), prompt, config.stop, None)
            distinct.setdefault(sample.text, sample)
        best = list(distinct.values())[:n]
        return best or [self._sample(Piece(0, ids[:0], np.zeros(0), "length"), prompt, (), None)][:n]

    def _pieces(
        self, prompt: str, config: SampleConfig, seed: int, n: int, first: int, after: Beginning | None = None
    ) -> Iterator[Piece]:
        if first < 0 or first + n > _MOST_TEXTS:
            raise ConfigError(f"texts have numbers from 0 to {_MOST_TEXTS - 1:,}, not {first:,} to {first + n - 1:,}")
        return pieces(
            self.prepared,
            self.vocabulary.encode(prompt),
            filters_for(config, self.vocabulary, prompt),
            seed=seed,
            texts=n,
            first=first,
            length=config.length,
            precision=self.precision,
            after=after,
            plan=self._plan(n),
        )

    def _plan(self, texts: int) -> Plan:
        shape = shape_for(texts, self.prepared, self.precision)
        if shape not in self.plans:
            self.plans[shape] = plan_for(shape, self.prepared, self.precision)
        return self.plans[shape]

    def _sample(self, piece: Piece, prompt: str, stops: Sequence[str], seed: int | None) -> Sample:
        ids = piece.ids[:-1] if piece.ended == "eos" else piece.ids
        text = self.vocabulary.decode(ids)
        if piece.ended == "stop":
            text = text[: -max(len(stop) for stop in stops if text.endswith(stop))]
        total = float(piece.log_probabilities.sum(dtype=np.float64))
        own = piece.log_probabilities[: len(text)]
        return Sample(
            text, prompt, total, piece.ended, seed, piece.number, tuple(ids[: len(text)].tolist()), tuple(own.tolist())
        )


class Stream(Iterator[str]):
    """A text's pieces as they are drawn, none empty.

    What may be the beginning of a stop is held back until it is known not to be. `ended` says why the text
    ended ("eos", "length" or "stop"), and is "" before.
    """

    def __init__(self, pieces: Iterator[Piece], vocabulary: Vocabulary, stops: Sequence[str]):
        self.ended = ""
        self._texts = self._read(pieces, vocabulary, stops)

    def __next__(self) -> str:
        return next(self._texts)

    def _read(self, pieces: Iterator[Piece], vocabulary: Vocabulary, stops: Sequence[str]) -> Iterator[str]:
        held = ""
        for piece in pieces:
            held += vocabulary.decode(piece.ids)
            if piece.ended == "stop":
                held = held[: -max(len(stop) for stop in stops if held.endswith(stop))]
            ready = len(held) - (0 if piece.ended else _beginning_of(stops, held))
            self.ended = piece.ended
            if ready:
                yield held[:ready]
                held = held[ready:]


def decode_precision(config: ModelConfig) -> str:
    """The number format of the products when text is drawn: what is faster on this machine at this width."""
    assert config.hidden_size is not None, "sizes are derived before a network is made"
    return resolve_precision("auto") if config.hidden_size >= _WIDE else "float32"


def sample_config(options: dict[str, Any]) -> tuple[SampleConfig, int]:
    """The configuration that some options make, and its seed. A single stop may be a plain text."""
    unknown = set(options) - set(SampleConfig.__dataclass_fields__)
    if unknown:
        raise ConfigError(f"no such option: {', '.join(sorted(unknown))}")
    stop = options.get("stop")
    if stop is not None:
        options = options | {"stop": (stop,) if isinstance(stop, str) else tuple(stop)}
    config = from_options(SampleConfig, options)
    return config, secrets.randbits(32) if config.seed is None else config.seed


def filters_for(config: SampleConfig, vocabulary: Vocabulary, prompt: str = "") -> tuple[Filter, ...]:
    """The filters that a configuration asks for, in the order in which they apply.

    First what may not be drawn (Forbid, Along, MinLength, NoRepeat), then what is less likely
    (RepeatPenalty, Temperature), then the choice among the likely (TopK, TopP, MinP). Those that would
    change nothing are left out. Raises ConfigError where nothing is left to draw.
    """
    filters = _rules(config, vocabulary, prompt)
    if config.repeat_penalty != 1:
        filters.append(RepeatPenalty(config.repeat_penalty, config.repeat_window, vocabulary.size))
    if config.temperature == 0:  # one id is left: nothing more to choose from
        return (*filters, Greedy())
    if config.temperature != 1:
        filters.append(Temperature(config.temperature))
    if 0 < config.top_k < vocabulary.size:
        filters.append(TopK(config.top_k))
    if config.top_p < 1:
        filters.append(TopP(config.top_p))
    if config.min_p > 0:
        filters.append(MinP(config.min_p))
    return tuple(filters)


def _rules(config: SampleConfig, vocabulary: Vocabulary, prompt: str) -> list[Filter]:
    """What may be drawn at all, and where a text ends."""
    permitted = _permitted(config, vocabulary)
    if not permitted[UNK + 1 :].any() and not (config.allow_unk and permitted[UNK]):
        raise ConfigError("--allow and --forbid leave no character that the model knows")
    forbidden = tuple(np.flatnonzero(~permitted).tolist())
    filters: list[Filter] = [Forbid(forbidden)] if forbidden else []
    if config.regex is not None:
        table = automaton.pattern(config.regex, vocabulary, permitted, prompt)
        filters.append(_along(table, config))
    elif config.min_length and not config.ignore_eos:
        filters.append(MinLength(config.min_length))
    if config.no_repeat:
        filters.append(NoRepeat(config.no_repeat, config.length, vocabulary.size))
    known = [stop for stop in config.stop if not vocabulary.unknown(stop)]  # others cannot be drawn
    if known:
        table = automaton.strings([vocabulary.encode(stop) for stop in known], vocabulary.size)
        filters.append(Stop(table.following, table.accepting))
    return filters


def _along(table: automaton.Automaton, config: SampleConfig) -> Along:
    along = Along.of(table, config.min_length, config.length)
    if along.possible:
        return along
    if config.min_length and Along.of(table, 0, config.length).possible:
        which = f"of --min-length {config.min_length:,} or more"
    elif Along.of(table, 0, len(table.following)).possible:  # the shortest passes through each state once at most
        which = f"of --length {config.length:,} or less"
    else:
        which = "of characters that the model knows and may draw"
    raise ConfigError(f"--regex: no text {which} matches {config.regex!r}")


def _permitted(config: SampleConfig, vocabulary: Vocabulary) -> np.ndarray:
    """Which ids may be drawn, `[V]` bool."""
    permitted = np.full(vocabulary.size, config.allow is None)
    permitted[vocabulary.encode(config.allow or "")] = True
    permitted[vocabulary.encode(config.forbid)] = False
    permitted[EOS], permitted[UNK] = not config.ignore_eos, config.allow_unk
    return permitted


def _as_piece(row: int, found: beam.Found) -> Piece:
    return Piece(row, found.ids, found.log_probabilities, found.ended)


def _beginning_of(stops: Sequence[str], text: str) -> int:
    """How many of the text's last characters may be the beginning of a stop."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in stops)), 0)
