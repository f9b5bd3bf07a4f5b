"""A trained model in a person's hands: it draws text, goes on from a prompt, and scores a text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint import find_run, load_weights
from charrnn.config import RunConfig
from charrnn.generation.decode import prepare
from charrnn.generation.score import total
from charrnn.nn.network import Network
from charrnn.parts import part_of
from charrnn.sampling import Sample, Sampler, decode_precision
from charrnn.text.selection import Part
from charrnn.text.vocabulary import UNK, Vocabulary

Stops = str | Sequence[str] | None
"""A text that ends a sample before it appears, or several."""

_SCORE_WINDOW = 512


@dataclass(frozen=True)
class Score:
    """How surprising a text is to a model. `nats` is the sum over `characters`; `unknown` of them were UNK."""

    nats: float
    characters: int
    unknown: int

    @property
    def nats_per_character(self) -> float:
        """Mean surprise of a character in nats."""
        return self.nats / max(self.characters, 1)

    @property
    def bits_per_character(self) -> float:
        """Mean surprise of a character in bits."""
        return self.nats_per_character / math.log(2)

    @property
    def perplexity(self) -> float:
        """Characters the model is as unsure between as if they were equally likely."""
        return math.exp(self.nats_per_character)


@dataclass(frozen=True)
class Model:
    """A network with its vocabulary, and how it was made.

    validation: the step of these weights and their nats per character on the held-out text.
    """

    config: RunConfig
    vocabulary: Vocabulary
    network: Network
    validation: dict[str, Any]

    def documents(self, part: Part) -> Iterator[str]:
        """The texts this model learnt from ("train"), was chosen by ("validation") or never met ("test").

        Raises CorpusError when the corpus is gone or has changed, ConfigError when there is no such part.
        """
        return part_of(self.config, part).documents()

    def unknown(self, text: str) -> list[str]:
        """The distinct characters of `text` that the model never learnt; UNK stands in for them."""
        return self.vocabulary.unknown(text)

    @cached_property
    def sampler(self) -> Sampler:
        """What draws from this model, its weights made ready once."""
        precision = decode_precision(self.config.model)
        return Sampler(prepare(self.network, precision), self.vocabulary, precision)

    def sample(self, prompt: str = "", n: int = 1, stop: Stops = None, **options: Any) -> list[Sample]:
        """Draw `n` texts, each until EOS, a stop or the length.

        `options` are the fields of `SampleConfig` (temperature, length, top_k, seed, ...). The same
        seed draws the same texts whatever `n` is. Raises ConfigError for options out of bounds.
        """
        return list(self.samples(prompt, n, stop, **options))

    def samples(self, prompt: str = "", n: int = 1, stop: Stops = None, **options: Any) -> Iterator[Sample]:
        """The same one by one, in constant memory for any `n`."""
        return self.sampler.samples(prompt, n, {**options, "stop": stop})

    def beam(self, prompt: str = "", width: int = 8, n: int = 1, **options: Any) -> list[Sample]:
        """The `n` continuations of the highest mean log-probability that a beam search of that width finds."""
        return self.sampler.beam(prompt, width, n, options)

    def stream(self, prompt: str = "", stop: Stops = None, row: int = 0, **options: Any) -> Iterator[str]:
        """Draw one text and yield its pieces as they come, none empty; together they are `sample`'s text.

        What may be the beginning of a stop is held back until it is known not to be.
        """
        return self.sampler.stream(prompt, row, {**options, "stop": stop})

    def complete(self, prompt: str, **options: Any) -> str:
        """The prompt with the model's continuation."""
        return prompt + self.sample(prompt, **options)[0].text

    def score(self, text: str) -> Score:
        """How surprising `text` is, read from the start of a document with the state carried through."""
        ids = self.vocabulary.encode(text)
        nats, characters = total(self.network, _windows(ids), self._precision)
        return Score(nats, characters, int((ids == UNK).sum()))

    @property
    def _precision(self) -> str:
        return "float32"


def load(run: str | Path | None = None, checkpoints: str | Path = "checkpoints") -> Model:
    """Load a run by name, a run folder or a `model.safetensors` file by path; the newest run by default.

    Raises RunNotFoundError when there is none, CheckpointError when it cannot be read.
    """
    return Model(*load_weights(find_run(None if run is None else str(run), Path(checkpoints))))


def _windows(ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A text as one stream of `[T, 1]` windows of equal length, the last padded with no targets."""
    for start in range(0, len(ids), _SCORE_WINDOW):
        targets = ids[start : start + _SCORE_WINDOW]
        targets = np.pad(targets, (0, _SCORE_WINDOW - len(targets)), constant_values=-1)
        before = ids[start - 1] if start else 0
        inputs = np.concatenate([[before], np.maximum(targets[:-1], 0)]).astype(np.int32)
        resets = np.zeros((_SCORE_WINDOW, 1), bool)
        resets[0] = start == 0
        yield inputs[:, None], targets[:, None].astype(np.int32), resets
