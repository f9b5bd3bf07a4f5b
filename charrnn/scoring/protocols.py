"""The ways in which a text is read for its score: they are never mixed."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from charrnn.errors import ConfigError, StorageError
from charrnn.generation.dynamic import SEGMENT, Rates, dynamic_score
from charrnn.generation.score import score, total
from charrnn.nn.network import Network
from charrnn.scoring.figures import Score, WindowsScore
from charrnn.scoring.text import Progress, ReadyText, no_progress
from charrnn.text.batches import NO_TARGET, Batch, ValidationBatches
from charrnn.text.vocabulary import EOS

COLD_WINDOW = 256
"""Characters of a window of the `windows` protocol, which is what transformer projects report."""

_OVERLAP = 512
_WINDOW, _WINDOW_OF_MANY = 512, 64
_COLD_ROWS = 64
_BLOCK = 1 << 20
_DYNAMIC_WINDOW = 25 * SEGMENT


def score_ids(network: Network, ids: np.ndarray, precision: str) -> float:
    """The nats of ids `[N]`, read from the start of a document with the state carried through."""
    return total(network, _windows(ids), precision)[0]


def _windows(ids: np.ndarray) -> Iterator[Batch]:
    """Ids as one stream of `[T, 1]` windows of equal length, the last padded with no targets."""
    for start in range(0, len(ids), _WINDOW):
        targets = ids[start : start + _WINDOW]
        targets = np.pad(targets, (0, _WINDOW - len(targets)), constant_values=NO_TARGET)
        before = ids[start - 1] if start else EOS
        inputs = np.concatenate([[before], np.maximum(targets[:-1], 0)]).astype(np.int32)
        resets = np.zeros((_WINDOW, 1), bool)
        resets[0] = start == 0
        yield Batch(inputs[:, None], targets[:, None].astype(np.int32), resets)


def score_stateful(
    network: Network, text: ReadyText, streams: int, precision: str, progress: Progress = no_progress
) -> Score:
    """One pass with the state carried, as validation makes it.

    With several streams each but the first begins 512 characters early, and those are read but not
    scored. One stream is exact, and slow on a long text.
    """
    nats = sum(float(part.sum(dtype=np.float64)) for part in _passes(network, text, streams, precision, progress))
    return text.score(nats)


def surprise(
    network: Network, text: ReadyText, streams: int, precision: str, progress: Progress = no_progress
) -> np.ndarray:
    """The nats of every position, `[len(text)]` float32, on disk as long as the text is open."""
    batches = batches_of(text, streams)
    nats = _on_disk(text.folder / "nats", len(text))
    for window, part in enumerate(_passes(network, text, streams, precision, progress)):
        first = window * batches.seq_length - batches.overlap
        begin, end = max(first, 0), min(first + len(part), batches.stream_length)
        for stream in range(streams):
            here = stream * batches.stream_length
            stop = min(here + end, len(text))
            if here + begin < stop:
                nats[here + begin : stop] = part[begin - first : stop - here - first, stream]
    return nats


def _on_disk(file: Path, size: int) -> np.ndarray:
    """Zeros `[size]` float32 in a file that has its room: where the disk is full, writing into a hole of it would kill.

    Raises StorageError where there is no room.
    """
    try:
        with file.open("wb") as opened:
            for begin in range(0, size, _BLOCK):
                np.zeros(min(_BLOCK, size - begin), np.float32).tofile(opened)
    except OSError as error:
        raise StorageError(f"{file.parent}: no room for {4 * size:,} bytes; name another folder in TMPDIR") from error
    return np.memmap(file, np.float32, "r+", shape=(size,))


def batches_of(text: ReadyText, streams: int) -> ValidationBatches:
    """A text as so many streams."""
    if streams == 1:
        return ValidationBatches(text.positions, _WINDOW, 1, 0)
    return ValidationBatches(text.positions, _WINDOW_OF_MANY, streams, _OVERLAP)


def _passes(
    network: Network, text: ReadyText, streams: int, precision: str, progress: Progress
) -> Iterator[np.ndarray]:
    """The nats `[T, B]` of each window."""
    batches = batches_of(text, streams)
    for window, nats in enumerate(score(network, map(batches.batch, range(len(batches))), precision)):
        progress(min((window + 1) * batches.seq_length * streams, len(text)), len(text))
        yield nats


def score_windows(
    network: Network, text: ReadyText, windows: int, seed: int, precision: str, progress: Progress = no_progress
) -> WindowsScore:
    """The mean over random windows, each read from the zero state: its first character is only read.

    Raises ConfigError when the text is shorter than a window.
    """
    if len(text) <= COLD_WINDOW:
        raise ConfigError(
            f"--protocol windows needs at least {COLD_WINDOW + 1} characters; {text.name} has {len(text)}"
        )
    starts = np.random.default_rng([seed, 3]).integers(0, len(text) - COLD_WINDOW, windows)
    rows = min(_COLD_ROWS, windows)
    padded = np.concatenate([starts, np.repeat(starts[:1], -windows % rows)]).reshape(-1, rows)
    means = []
    for number, nats in enumerate(score(network, (_cold(text, row) for row in padded), precision)):
        means.append(nats.sum(0, dtype=np.float64) / COLD_WINDOW)
        progress(min((number + 1) * rows, windows), windows)
    each = np.concatenate(means)[:windows]
    error = float(each.std(ddof=1)) / math.sqrt(windows) if windows > 1 else math.nan
    return WindowsScore(float(each.mean()), error, windows)


def _cold(text: ReadyText, starts: np.ndarray) -> Batch:
    batch = text.positions.look_up(starts + np.arange(COLD_WINDOW + 1)[:, None])
    batch.resets[0] = True
    batch.targets[0] = NO_TARGET
    return batch


def score_dynamic(network: Network, text: ReadyText, rates: Rates, progress: Progress = no_progress) -> Score:
    """Dynamic evaluation: one pass in which the network goes on learning what it has read."""
    batches = ValidationBatches(text.positions, _DYNAMIC_WINDOW, 1, 0)
    nats = 0.0
    windows = dynamic_score(network, map(batches.batch, range(len(batches))), rates)
    for window, part in enumerate(windows):
        nats += float(part.sum(dtype=np.float64))
        progress(min((window + 1) * batches.seq_length, len(text)), len(text))
    if not math.isfinite(nats):
        raise ConfigError("--dynamic-rate: the network came apart while it learnt; give a lower one")
    return text.score(nats)
