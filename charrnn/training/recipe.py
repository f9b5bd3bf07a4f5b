"""From one dial to every setting: what is not given is derived from the text, the budget and the machine.

The rules of width and of dropout are read off `benchmarks/results/sizes.txt` and, where two widths were alike there,
off whole processes in `benchmarks/results/ablation.txt`.
"""

import dataclasses
import math

from charrnn.config import (
    DEFAULT_VAL_FRACTION,
    WITHOUT_RECURRENT_MATRIX,
    DataConfig,
    ModelConfig,
    Optimizer,
    Size,
    TrainingConfig,
)
from charrnn.errors import CorpusError
from charrnn.nn.cells import make_cell
from charrnn.text.vocabulary import FIRST_CHARACTER
from charrnn.training.speed import Speed

DEFAULT_MINUTES = 5.0
DEFAULT_EPOCHS = 60.0
ADAPTING_MINUTES = 1.0
ADAPTING_EPOCHS = 12.0
_ADAPTING_RATE = 0.3
_ONE_HOT_CHARACTERS = 512
_LARGE_ALPHABET_EMBEDDING = 128
_HELD_OUT_CHARACTERS = 1_000_000
_FORWARD_SHARE, _VALIDATION_SHARE = 1 / 3, 0.05

WIDTHS = (64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 2048)
SIZES: dict[Size, int] = {"tiny": 128, "small": 256, "medium": 512, "large": 1024}
_BATCH_SIZE, _SEQ_LENGTH = 32, 64
_READ_A_WEIGHT = 8.0
_MOST_WEIGHTS_A_CHARACTER = 40.0
_TIMES_FOR_SGD = 100
_LEAST_VARIATIONAL = 0.1
MOST_DROPOUT, MOST_WEIGHT_DROP = 0.6, 0.5


def recurrent_weights(model: ModelConfig, hidden_size: int) -> int:
    """How many weights the layers multiply a character by, a square of the width at least.

    What a character's row of the first layer's input matrix is made of is not among them: it is looked up.
    """
    cell = make_cell(model)
    inputs = [model.embedding_size or _LARGE_ALPHABET_EMBEDDING] + [hidden_size] * (model.num_layers - 1)
    own = [kernel.rows * sum(kernel.blocks) for size in inputs for kernel in cell.kernels(size, hidden_size).values()]
    return max(hidden_size**2, sum(own) + (model.num_layers - 1) * cell.input_gates * hidden_size**2)


def characters_read(
    model: ModelConfig,
    training: TrainingConfig,
    positions: int,
    vocabulary_size: int,
    speed: Speed | None,
    hidden_size: int,
) -> float:
    """How many characters training will read, of the budgets the first to end. `speed` is needed for minutes.

    Without a budget the network is made for the default one, since nobody knows how long it will go on.
    """
    batch_size, seq_length = training.batch_size or _BATCH_SIZE, training.seq_length or _SEQ_LENGTH
    if not training.has_budget:
        training = dataclasses.replace(training, minutes=DEFAULT_MINUTES, epochs=DEFAULT_EPOCHS)
    budgets = []
    if training.epochs is not None:
        budgets.append(training.epochs * positions)
    if training.steps is not None:
        budgets.append(float(training.steps * batch_size * seq_length))
    if training.minutes is not None and speed is not None:
        weights = recurrent_weights(model, hidden_size) + hidden_size * vocabulary_size
        budgets.append(60 * training.minutes * speed.characters_a_second(weights, batch_size, model.num_layers))
    return min(budgets, default=DEFAULT_EPOCHS * positions)


def choose_width(
    model: ModelConfig, training: TrainingConfig, positions: int, vocabulary_size: int, speed: Speed | None
) -> int:
    """The widest network that could read several characters for each of its weights in the time.

    Of a small text too: a narrower network would read it more often, and learn it by heart. So where there is a time,
    many epochs do not make it narrower. But there are at most 40 weights for each character of the text.
    """
    timed, many = training.minutes or not training.has_budget, (training.epochs or DEFAULT_EPOCHS) >= DEFAULT_EPOCHS
    if timed and many:
        training = dataclasses.replace(training, minutes=training.minutes or DEFAULT_MINUTES, epochs=None)

    def fits(width: int) -> bool:
        weights = recurrent_weights(model, width)
        read = characters_read(model, training, positions, vocabulary_size, speed, width)
        return read >= _READ_A_WEIGHT * weights and weights <= _MOST_WEIGHTS_A_CHARACTER * positions

    return max((width for width in WIDTHS if fits(width)), default=WIDTHS[0])


def rate_for(hidden_size: int, optimizer: Optimizer = "adamw") -> float:
    """The peak learning rate for a width.

    SGD's steps are no longer than its gradients: of 1x32 on the fables 0.012 left 2.82 nats, 0.5 1.84 and 2.0 1.73.
    """
    return min(1.5e-2, 3.84 / hidden_size) * (_TIMES_FOR_SGD if optimizer == "sgd" else 1)


def dropout_for(characters_read: float, weights: int, positions: int) -> tuple[float, float]:
    """The shares of units and of recurrent weights to drop.

    More for a text that is read more often, and by more weights: else it would be learnt by heart.
    """
    pressure = math.log10(characters_read / positions * weights / positions)
    return _share(0.1 + 0.18 * pressure, MOST_DROPOUT), _share(0.25 * pressure - 0.165, MOST_WEIGHT_DROP)


def _share(value: float, most: float) -> float:
    return round(min(max(value, 0.0), most), 2)


def resolve_val_fraction(data: DataConfig, characters: int) -> DataConfig:
    """Hold out a tenth, but no more than a million characters, unless told otherwise."""
    if data.val_fraction is not None:
        return data
    return dataclasses.replace(data, val_fraction=min(DEFAULT_VAL_FRACTION, _HELD_OUT_CHARACTERS / max(characters, 1)))


def adapting(
    training: TrainingConfig, before: TrainingConfig, hidden_size: int, adapted_before: bool = False
) -> TrainingConfig:
    """The budget and the learning rate for a network that knows much already, which it learnt as `before` says.

    Where it was adapted once already, it has the lower rate.
    """
    of_one_kind = "sgd" not in {training.optimizer, before.optimizer} or training.optimizer == before.optimizer
    rate = (before.learning_rate if of_one_kind else None) or rate_for(hidden_size, training.optimizer)
    share = 1.0 if adapted_before and of_one_kind and before.learning_rate else _ADAPTING_RATE
    if not training.has_budget and not training.patience:
        training = dataclasses.replace(training, minutes=ADAPTING_MINUTES, epochs=ADAPTING_EPOCHS)
    return dataclasses.replace(training, learning_rate=training.learning_rate or rate * share)


def with_budget(training: TrainingConfig) -> TrainingConfig:
    """The default budget where none is given, and no patience that would do without one."""
    if training.has_budget or training.patience:
        return training
    return dataclasses.replace(training, minutes=DEFAULT_MINUTES, epochs=DEFAULT_EPOCHS)


def resolve(
    model: ModelConfig,
    training: TrainingConfig,
    positions: int,
    val_positions: int,
    vocabulary_size: int,
    speed: Speed | None = None,
) -> tuple[ModelConfig, TrainingConfig]:
    """Fill in what was not given.

    positions and val_positions: predictions an epoch and a validation hold. speed: the machine's; without it
    a budget of minutes counts for nothing. Raises CorpusError when the training part is shorter than one window.
    """
    training = with_budget(training)
    seq_length = training.seq_length or _SEQ_LENGTH
    if positions < seq_length:
        raise CorpusError(
            f"the training part holds {positions:,} characters, fewer than one window of {seq_length}; "
            "give more text or a smaller --seq-length"
        )
    batch_size = training.batch_size or max(1, min(_BATCH_SIZE, positions // (4 * seq_length)))
    training = dataclasses.replace(training, seq_length=seq_length, batch_size=batch_size)
    width = SIZES.get(training.size) or choose_width(model, training, positions, vocabulary_size, speed)
    hidden_size = model.hidden_size or width
    read = characters_read(model, training, positions, vocabulary_size, speed, hidden_size)
    gates_its_input = model.cell == "mogrifier-lstm"
    one_hot = vocabulary_size - FIRST_CHARACTER <= _ONE_HOT_CHARACTERS and not gates_its_input
    embedding = 0 if one_hot else _LARGE_ALPHABET_EMBEDDING
    units, recurrent = dropout_for(read, recurrent_weights(model, hidden_size), positions)
    if model.variational:  # it was asked for
        units = max(units, _LEAST_VARIATIONAL)
    dropout, weight_drop = units if model.dropout is None else model.dropout, model.weight_drop
    if weight_drop is None and model.cell not in WITHOUT_RECURRENT_MATRIX:
        weight_drop = min(recurrent, dropout)  # who wants less dropout means this one too
    model = dataclasses.replace(
        model,
        hidden_size=hidden_size,
        embedding_size=embedding if model.embedding_size is None else model.embedding_size,
        dropout=dropout,
        weight_drop=weight_drop,
    )
    training = dataclasses.replace(
        training, learning_rate=training.learning_rate or rate_for(hidden_size, training.optimizer)
    )
    every = training.eval_every or _eval_every(training, val_positions, read)
    return model, dataclasses.replace(training, eval_every=every)


def _eval_every(training: TrainingConfig, val_positions: int, read: float) -> int:
    """Steps between validations such that they take about a twentieth of the time.

    Or up to three times as much where a long held-out text would else be read fewer than three times.
    """
    a_step = training.seq_length * training.batch_size  # type: ignore[operator]
    every = max(50, round(val_positions * _FORWARD_SHARE / _VALIDATION_SHARE / a_step))
    if training.steps:
        return min(every, max(1, training.steps // 10))
    return min(every, max(50, round(read / a_step) // 3, every // 3))
