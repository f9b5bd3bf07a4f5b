"""A trained model in a person's hands: it draws text, goes on from a prompt, and scores a text."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint import find_run, load_weights
from charrnn.config import RunConfig, SampleConfig, from_options
from charrnn.errors import ConfigError
from charrnn.generation.decode import stream
from charrnn.nn.network import Network
from charrnn.parts import part_of
from charrnn.reader import Reader
from charrnn.scoring.figures import Score
from charrnn.scoring.protocols import score_ids
from charrnn.text.selection import Part
from charrnn.text.vocabulary import EOS, UNK, Vocabulary

_ROWS = 64


@dataclass(frozen=True)
class Sample:
    """A drawn text.

    text: without the prompt. log_probability: of the drawn characters (and EOS) under the model at
    temperature 1, in nats. ended: "eos", "length" or "stop". seed: draws the same text again with
    `row` as its place in the batch.
    """

    text: str
    prompt: str
    log_probability: float
    ended: str
    seed: int
    row: int


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

    def sample(self, prompt: str = "", n: int = 1, stop: str | None = None, **options: Any) -> list[Sample]:
        """Draw `n` texts, each until EOS, `stop` or the length.

        `options` are the fields of `SampleConfig` (temperature, length, top_k, seed, ...). The same
        seed draws the same texts whatever `n` is. Raises ConfigError for options out of bounds.
        """
        if n < 0:
            raise ConfigError(f"--n must be at least 0, not {n}")
        config, seed = _sample_config(options)
        samples: list[Sample] = []
        for first in range(0, n, _ROWS):
            samples.extend(self._sample_rows(prompt, min(_ROWS, n - first), first, stop, config, seed))
        return samples

    def _sample_rows(
        self, prompt: str, rows: int, first: int, stop: str | None, config: SampleConfig, seed: int
    ) -> list[Sample]:
        chunks = list(self._chunks(prompt, config, seed, rows, first))
        ids = np.concatenate([chunk[0] for chunk in chunks] or [np.zeros((0, rows), np.int32)])
        log_probabilities = np.concatenate([chunk[1] for chunk in chunks] or [np.zeros((0, rows))])
        return [
            self._finish(ids[:, row], log_probabilities[:, row], prompt, stop, seed, first + row) for row in range(rows)
        ]

    def _finish(
        self, ids: np.ndarray, log_probabilities: np.ndarray, prompt: str, stop: str | None, seed: int, row: int
    ) -> Sample:
        """Cut one row at its end: EOS, the stop text, or the length."""
        ends = np.flatnonzero(ids == EOS)
        length, ended = (int(ends[0]), "eos") if len(ends) else (len(ids), "length")
        text = self.vocabulary.decode(ids[:length])
        counted = length + (ended == "eos")
        if stop and (at := text.find(stop)) >= 0:
            text, ended, counted = text[:at], "stop", at + len(stop)
        return Sample(text, prompt, float(log_probabilities[:counted].sum()), ended, seed, row)

    def stream(self, prompt: str = "", stop: str | None = None, row: int = 0, **options: Any) -> Iterator[str]:
        """Draw one text and yield its pieces as they come, none empty; together they are `sample`'s text.

        What may be the beginning of `stop` is held back until it is known not to be.
        """
        config, seed = _sample_config(options)
        held = ""
        for ids, _ in self._chunks(prompt, config, seed, 1, row):
            ends = np.flatnonzero(ids[:, 0] == EOS)
            held += self.vocabulary.decode(ids[: ends[0], 0] if len(ends) else ids[:, 0])
            if stop and (at := held.find(stop)) >= 0:
                held = held[:at]
                break
            ready = len(held) - _beginning_of(stop, held)
            if ready:
                yield held[:ready]
                held = held[ready:]
            if len(ends):
                break
        if held:
            yield held

    def complete(self, prompt: str, **options: Any) -> str:
        """The prompt with the model's continuation."""
        return prompt + self.sample(prompt, **options)[0].text

    def score(self, text: str, end: bool = False) -> Score:
        """How surprising `text` is, read from the start of a document with the state carried through.

        With `end` the document's end after it counts too, as in a sample that ended by itself.
        """
        ids = self.vocabulary.encode(text)
        nats = score_ids(self.network, np.append(ids, np.int32(EOS)) if end else ids, self._precision)
        size = len(text.encode("utf-8", "surrogatepass"))
        return Score(nats, len(ids), int((ids == UNK).sum()), int(end), size)

    def reader(self) -> Reader:
        """The model before the first character of a text, ready to follow one as it grows."""
        return Reader.of(self.network, self.vocabulary, self._precision)

    @property
    def _precision(self) -> str:
        return "float32"

    def _chunks(
        self, prompt: str, config: SampleConfig, seed: int, rows: int, first_row: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return stream(
            self.network,
            self.vocabulary.encode(prompt),
            config,
            vocabulary_size=self.vocabulary.size,
            seed=seed,
            rows=rows,
            first_row=first_row,
            precision=self._precision,
        )


def load(run: str | Path | None = None, checkpoints: str | Path = "checkpoints") -> Model:
    """Load a run by name, a run folder or a `model.safetensors` file by path; the newest run by default.

    Raises RunNotFoundError when there is none, CheckpointError when it cannot be read.
    """
    return Model(*load_weights(find_run(None if run is None else str(run), Path(checkpoints))))


def _sample_config(options: dict[str, Any]) -> tuple[SampleConfig, int]:
    unknown = set(options) - set(SampleConfig.__dataclass_fields__)
    if unknown:
        raise ConfigError(f"no such option: {', '.join(sorted(unknown))}")
    config = from_options(SampleConfig, options)
    return config, secrets.randbits(32) if config.seed is None else config.seed


def _beginning_of(stop: str | None, text: str) -> int:
    """How many of the text's last characters may be the beginning of `stop`."""
    if not stop:
        return 0
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
