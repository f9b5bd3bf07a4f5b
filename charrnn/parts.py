"""The texts of a run, found again: what it learnt from, what was held out, what was kept back for a test."""

from charrnn.config import DEFAULT_VAL_FRACTION, DataConfig, RunConfig
from charrnn.errors import ConfigError, CorpusError
from charrnn.text.bundled import resolve_sources
from charrnn.text.corpus import Corpus, find_prepared, prepare
from charrnn.text.selection import Part, Parts, Selection, split


def corpus_of(config: RunConfig) -> Corpus:
    """The corpus that a run learnt: from the user's cache, else from the files it came from.

    Raises CorpusError when neither holds that text any more.
    """
    data = config.data
    found = find_prepared(config.corpus_hash, data.documents, data.encoding, data.errors)
    if found is None and "-" not in config.corpus:
        sources, documents = resolve_sources(config.corpus, data.documents)
        found = prepare(sources, documents=documents, encoding=data.encoding, errors=data.errors)
    if found is None or found.fingerprint != config.corpus_hash:
        which = "was read from a pipe and the cache no longer holds it" if found is None else "has changed since"
        raise CorpusError(f"{', '.join(config.corpus)}: the text that the run learnt {which}")
    return found


def split_as(corpus: Corpus, data: DataConfig, seed: int) -> Parts:
    """A corpus split as a run's configuration says, the default share held out where it says none."""
    return split(corpus, data.val_fraction or DEFAULT_VAL_FRACTION, seed, data.test_fraction)


def part_of(config: RunConfig, part: Part) -> Selection:
    """One part of a run's corpus: "train", "validation" or "test".

    Raises CorpusError when the text is gone, ConfigError when nothing was kept back for a test.
    """
    if part == "test" and not config.data.test_fraction:
        raise ConfigError("this run kept no text back for a test; train with --test-fraction 0.1 to have one")
    parts = split_as(corpus_of(config), config.data, config.training.seed)
    return next(selection for selection in parts if selection is not None and selection.part == part)
