"""From one dial to every setting: what is not given is derived from the text and the budget."""

import dataclasses
from typing import NamedTuple

from charrnn.config import DEFAULT_VAL_FRACTION, DataConfig, ModelConfig, Size, TrainingConfig
from charrnn.errors import CorpusError

DEFAULT_MINUTES = 5.0
DEFAULT_EPOCHS = 60.0
ADAPTING_MINUTES = 1.0
ADAPTING_EPOCHS = 12.0
_ADAPTING_RATE = 0.3
_ONE_HOT_VOCABULARY = 256
_LARGE_ALPHABET_EMBEDDING = 128
_HELD_OUT_CHARACTERS = 1_000_000
_FORWARD_SHARE, _VALIDATION_SHARE = 1 / 3, 0.05
_SMALL_TEXT, _SMALL_TEXT_DROPOUT = 300_000, 0.3


class Scale(NamedTuple):
    """One point on the dial."""

    hidden_size: int
    batch_size: int
    seq_length: int
    learning_rate: float
    dropout: float


# A wide single layer beat two narrower ones at equal time in trials on a 2-core machine.
SCALES: dict[Size, Scale] = {
    "tiny": Scale(128, 32, 64, 1.2e-2, 0.1),
    "small": Scale(256, 32, 64, 1e-2, 0.1),
    "medium": Scale(512, 32, 64, 5e-3, 0.25),
    "large": Scale(1024, 64, 128, 2e-3, 0.4),
}


def rate_for(hidden_size: int) -> float:
    """The peak learning rate for a width."""
    return min(1.2e-2, 2.56 / hidden_size)


def choose_size(characters: int, minutes: float | None) -> Size:
    """The point on the dial for a training part of so many characters and a budget."""
    if characters < 60_000:
        return "tiny"
    return "medium" if characters > 500_000 and (minutes or 0) >= 8 else "small"


def resolve_val_fraction(data: DataConfig, characters: int) -> DataConfig:
    """Hold out a tenth, but no more than a million characters, unless told otherwise."""
    if data.val_fraction is not None:
        return data
    return dataclasses.replace(data, val_fraction=min(DEFAULT_VAL_FRACTION, _HELD_OUT_CHARACTERS / max(characters, 1)))


def adapting(training: TrainingConfig, rate: float) -> TrainingConfig:
    """The budget and the learning rate for a network that knows much already, learnt with the peak `rate`."""
    if not training.has_budget and not training.patience:
        training = dataclasses.replace(training, minutes=ADAPTING_MINUTES, epochs=ADAPTING_EPOCHS)
    return dataclasses.replace(training, learning_rate=training.learning_rate or rate * _ADAPTING_RATE)


def resolve(
    model: ModelConfig, training: TrainingConfig, positions: int, val_positions: int, vocabulary_size: int
) -> tuple[ModelConfig, TrainingConfig]:
    """Fill in what was not given.

    positions and val_positions: predictions an epoch and a validation hold. Raises CorpusError when
    the training part is shorter than one window.
    """
    if not training.has_budget and not training.patience:
        training = dataclasses.replace(training, minutes=DEFAULT_MINUTES, epochs=DEFAULT_EPOCHS)
    size = choose_size(positions, training.minutes) if training.size == "auto" else training.size
    scale = SCALES[size]
    seq_length = training.seq_length or scale.seq_length
    if positions < seq_length:
        raise CorpusError(
            f"the training part holds {positions:,} characters, fewer than one window of {seq_length}; "
            "give more text or a smaller --seq-length"
        )
    batch_size = training.batch_size or max(1, min(scale.batch_size, positions // (4 * seq_length)))
    gates_its_input = model.cell == "mogrifier-lstm"
    one_hot = vocabulary_size <= _ONE_HOT_VOCABULARY and not gates_its_input
    embedding = 0 if one_hot else _LARGE_ALPHABET_EMBEDDING
    # A small text is read many times over: without dropout it would be learnt by heart.
    dropout = max(scale.dropout, _SMALL_TEXT_DROPOUT) if positions < _SMALL_TEXT else scale.dropout
    model = dataclasses.replace(
        model,
        hidden_size=model.hidden_size or scale.hidden_size,
        embedding_size=embedding if model.embedding_size is None else model.embedding_size,
        dropout=dropout if model.dropout is None else model.dropout,
    )
    training = dataclasses.replace(
        training,
        size=size,
        seq_length=seq_length,
        batch_size=batch_size,
        learning_rate=training.learning_rate or scale.learning_rate,
    )
    return model, dataclasses.replace(training, eval_every=training.eval_every or _eval_every(training, val_positions))


def _eval_every(training: TrainingConfig, val_positions: int) -> int:
    """Steps between validations such that they take about a twentieth of the time."""
    a_step = training.seq_length * training.batch_size  # type: ignore[operator]
    every = max(50, round(val_positions * _FORWARD_SHARE / _VALIDATION_SHARE / a_step))
    return min(every, max(1, training.steps // 10)) if training.steps else every
