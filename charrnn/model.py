"""A trained model in a person's hands: it draws text, goes on from a prompt, and scores a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint import find_run, load_weights
from charrnn.config import RunConfig
from charrnn.generation.decode import Beginning
from charrnn.generation.prepared import prepare
from charrnn.nn.network import Network
from charrnn.parts import part_of
from charrnn.reader import Reader
from charrnn.sampling import Progress, Sample, Sampler, Stream, decode_precision
from charrnn.scoring.figures import Score
from charrnn.scoring.protocols import score_ids
from charrnn.text.selection import Part
from charrnn.text.vocabulary import EOS, UNK, Vocabulary

Stops = str | Sequence[str] | None
"""A text that ends a sample before it appears, or several."""


@dataclass(frozen=True)
class Model:
    """A network with its vocabulary, and how it was made.

    validation: the step of these weights, their nats per character on the held-out text, and the temperature in them.
    name: the run's, or the weights file's where it was loaded from one.
    """

    config: RunConfig
    vocabulary: Vocabulary
    network: Network
    validation: dict[str, Any]
    name: str = ""

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

    def samples(
        self, prompt: str = "", n: int = 1, stop: Stops = None, after: Beginning | None = None, **options: Any
    ) -> Iterator[Sample]:
        """The same one by one, in constant memory for any `n`. after: as in `stream`."""
        return self.sampler.samples(prompt, n, {**options, "stop": stop}, after=after)

    def beam(
        self, prompt: str = "", width: int = 8, n: int = 1, after: Beginning | None = None, **options: Any
    ) -> list[Sample]:
        """The `n` continuations of the highest mean log-probability that a beam search of that width finds."""
        return self.sampler.beam(prompt, width, n, options, after)

    def read(self, prompt: str, after: Beginning | None = None, progress: Progress | None = None) -> Beginning:
        """Read a prompt, for `stream` and the others to go on from.

        What the prompt begins with may have been read before: `after`. `progress(done, total)` is called now and then.
        """
        return self.sampler.read(prompt, after, progress)

    def stream(
        self, prompt: str = "", stop: Stops = None, row: int = 0, after: Beginning | None = None, **options: Any
    ) -> Stream:
        """Draw one text piece by piece; together they are `sample`'s text.

        What may be the beginning of a stop is held back until it is known not to be. After the last piece, the
        stream's `ended` says why the text ended. What the prompt begins with is not read again where `after` is it.
        """
        return self.sampler.stream(prompt, row, {**options, "stop": stop}, after)

    def complete(self, prompt: str, **options: Any) -> str:
        """The prompt with the model's continuation."""
        return prompt + self.sample(prompt, **options)[0].text

    def score(self, text: str, end: bool = False) -> Score:
        """How surprising `text` is, read from the start of a document with the state carried through.

        It is what `sample` says of the same text: minus the sum of its characters' log-probabilities.
        With `end` the document's end after it counts too, as in a sample that ended by itself.
        """
        ids = self.vocabulary.encode(text)
        nats = score_ids(self.network, np.append(ids, np.int32(EOS)) if end else ids, self.sampler.precision)
        size = len(text.encode("utf-8", "surrogatepass"))
        return Score(nats, len(ids), int((ids == UNK).sum()), int(end), size)

    def reader(self) -> Reader:
        """The model before the first character of a text, ready to follow one as it grows."""
        return Reader.of(self.sampler.prepared, self.vocabulary, self.sampler.precision)


def load(run: str | Path | None = None, checkpoints: str | Path = "checkpoints") -> Model:
    """Load a run by name, a run folder or a `model.safetensors` file by path; the newest run by default.

    Raises RunNotFoundError when there is none, CheckpointError when it cannot be read.
    """
    path = find_run(None if run is None else str(run), Path(checkpoints), to_read=True)
    return Model(*load_weights(path), name=path.resolve().name if path.is_dir() else path.name)
