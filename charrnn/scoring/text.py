"""A text made ready to be scored by the rules of a run.

It is read as training reads one: prepared on disk in constant memory, its documents those of the
run, each with its EOS where the run's had one.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charrnn.config import RunConfig
from charrnn.errors import CorpusError, StorageError
from charrnn.parts import part_of
from charrnn.scoring.figures import Score
from charrnn.text.batches import Positions
from charrnn.text.corpus import prepare
from charrnn.text.selection import Part
from charrnn.text.vocabulary import UNK, Vocabulary
from charrnn.text.whole import WholeText

_STREAM = 16_384
_MOST_STREAMS = 128

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class ReadyText:
    """A text prepared to be scored. unknown: characters the model never learnt, and how often they occur."""

    name: str
    whole: WholeText
    positions: Positions
    unknown: dict[str, int]
    bytes: int
    folder: Path

    def __len__(self) -> int:
        """Positions to be scored: characters, and the documents' ends."""
        return len(self.positions)

    @property
    def streams(self) -> int:
        """How many streams it is read as when nothing is said: one for less than 32,768 characters, at most 128."""
        wanted = max(1, min(_MOST_STREAMS, len(self) // _STREAM))
        return 1 << (wanted.bit_length() - 1)  # a power of two, so that few programs are compiled

    @property
    def ends(self) -> int:
        """How many of the positions are a document's end."""
        return self.whole.document_count * self.whole.ended

    def score(self, nats: float) -> Score:
        """The figures when all of it costs so many nats."""
        return Score(nats, len(self) - self.ends, sum(self.unknown.values()), self.ends, self.bytes)


@contextmanager
def open_text(
    source: str | Path,
    config: RunConfig,
    vocabulary: Vocabulary,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    progress: Progress = no_progress,
) -> Iterator[ReadyText]:
    """Prepare a file (`-` is the standard input) in a folder that goes away again.

    Raises CorpusError for what cannot be read, is empty or no text.
    """
    with tempfile.TemporaryDirectory(prefix="charrnn-score-") as folder:
        try:
            corpus = prepare(
                [source], documents=config.data.documents, encoding=encoding or config.data.encoding,
                errors=errors or config.data.errors, cache=Path(folder), progress=progress,
            )  # fmt: skip
        except CorpusError as error:  # what came by a pipe is no file that a person knows
            raise CorpusError(re.sub(rf"{re.escape(folder)}\S*?\.txt", "standard input", str(error))) from error
        except StorageError as error:
            raise StorageError(str(error).replace("CHARRNN_CACHE", "TMPDIR")) from error
        name = "standard input" if str(source) == "-" else str(source)
        yield _ready(name, WholeText.of(corpus, config.documents_end), vocabulary, Path(folder))


@contextmanager
def open_part(config: RunConfig, vocabulary: Vocabulary, part: Part) -> Iterator[ReadyText]:
    """One part of the corpus that a run learnt: "train", "validation" or "test".

    Raises CorpusError when the text is gone, ConfigError when nothing was kept back for a test.
    """
    whole = WholeText.of_selection(part_of(config, part))
    with tempfile.TemporaryDirectory(prefix="charrnn-score-") as folder:
        yield _ready(f"the {part} part", whole, vocabulary, Path(folder))


def _ready(name: str, whole: WholeText, vocabulary: Vocabulary, folder: Path) -> ReadyText:
    counts, ids = whole.symbol_counts(), vocabulary.ids_of_code_points(whole.corpus.alphabet)
    unknown = {chr(whole.corpus.alphabet[i]): int(counts[i]) for i in np.flatnonzero((ids == UNK) & (counts > 0))}
    return ReadyText(name, whole, Positions.of(whole, vocabulary), unknown, whole.utf8_bytes(), folder)
