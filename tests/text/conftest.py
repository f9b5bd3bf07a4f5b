"""Corpora made from a text, for every test of this room."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from charrnn.text.corpus import Corpus, prepare

MakeCorpus = Callable[..., Corpus]


@pytest.fixture(scope="session")
def make_corpus(tmp_path_factory: pytest.TempPathFactory) -> MakeCorpus:
    """A function that prepares texts or bytes, a file each, as a corpus in a cache of its own."""
    number = count()

    def make(*contents: str | bytes, **options: Any) -> Corpus:
        folder = tmp_path_factory.mktemp("corpus")
        files: list[str | Path] = []
        for content in contents:
            file = folder / f"{next(number):06}.txt"
            file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
            files.append(file)
        return prepare(files, cache=folder, **options)

    return make


@pytest.fixture(scope="session")
def documents_of() -> Callable[[Corpus], list[str]]:
    """A function that reads a corpus's documents back as texts."""

    def read(corpus: Corpus) -> list[str]:
        codes = corpus.alphabet[corpus.symbols].astype("<u4")
        return [codes[a:b].tobytes().decode("utf-32-le", "surrogatepass") for a, b in corpus.spans]

    return read
