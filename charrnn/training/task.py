"""What to train on, where to keep it, and when it is over."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from charrnn.checkpoint import RunFolder
from charrnn.config import RunConfig, TrainingConfig
from charrnn.errors import CheckpointError
from charrnn.nn.network import Network
from charrnn.text.batches import Positions, TrainBatches, ValidationBatches
from charrnn.text.selection import Parts, Selection
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.progress import Progress
from charrnn.training.step import TrainState, initial_state

_VALIDATION_STREAMS = 64
BUDGETS = frozenset({"epochs", "steps", "minutes"})
CHANGEABLE = BUDGETS | {"patience", "eval_every", "sample_every", "checkpoint_every"}
"""The settings of a run that may be others when it goes on."""


@dataclass(frozen=True)
class Task:
    """What to train on, where to keep it, and the network to start from (None is a fresh one)."""

    config: RunConfig
    vocabulary: Vocabulary
    train: TrainBatches
    validation: ValidationBatches
    test: ValidationBatches | None
    folder: RunFolder
    network: Network | None = None

    @classmethod
    def of(
        cls, config: RunConfig, vocabulary: Vocabulary, parts: Parts, folder: RunFolder, network: Network | None = None
    ) -> "Task":
        """Lay the parts out as batches, as the configuration says."""
        training = config.training
        assert training.seq_length and training.batch_size
        batches = TrainBatches(
            Positions.of(parts.train, vocabulary), training.seq_length, training.batch_size, training.reset_rate
        )
        validation = held_out_batches(parts.validation, vocabulary, training.seq_length)
        test = held_out_batches(parts.test, vocabulary, training.seq_length) if parts.test else None
        return cls(config, vocabulary, batches, validation, test, folder, network)

    @cached_property
    def made_from(self) -> str:
        """SHA-256 of all that may not change between a run's beginning and its end, as hex."""
        config = dataclasses.asdict(self.config)
        for name in CHANGEABLE:
            config["training"].pop(name)
        config.pop("versions")
        config.pop("corpus")  # where the text lies; its content has a hash
        facts = [config, self.vocabulary.to_json()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def nats_of_frequencies(self) -> float:
        """Nats per character that the held-out text costs who counts the characters of the training text alone."""
        learnt, held_out = (_symbol_counts(part.positions.selection) for part in (self.train, self.validation))
        shares = (learnt + 1) / (learnt.sum() + len(learnt))
        return float(-(held_out * np.log(shares)).sum() / held_out.sum())

    def says_no_more_than_frequencies(self, nats: float) -> bool:
        """Whether a model with this loss on held-out text is no better than a count of the characters learnt from.

        Their own frequencies are the least that any count costs: the whole corpus is only read where that is no answer.
        """
        counts = _symbol_counts(self.validation.positions.selection)
        shares = counts[counts > 0] / counts.sum()
        return nats >= -(shares * np.log(shares)).sum() and nats >= self.nats_of_frequencies

    def first_state(self) -> TrainState:
        """The state before the first step. Raises CheckpointError where what a run starts from is not at hand."""
        if self.config.init_from and self.network is None:
            origin = self.config.init_from.run
            raise CheckpointError(f"{self.folder.path}: no step is left to go back to; start anew --init-from {origin}")
        return initial_state(self.config, self.vocabulary.size, self.network)

    def state_structure(self) -> TrainState:
        """A state's shapes and dtypes, without its arrays."""
        return jax.eval_shape(lambda: initial_state(self.config, self.vocabulary.size))


def _symbol_counts(part: Selection) -> np.ndarray:
    """How often each symbol occurs in a part, and last the ends of documents."""
    counts = part.symbol_counts()
    return np.append(counts, part.positions - counts.sum())


def held_out_batches(part: Selection, vocabulary: Vocabulary, seq_length: int) -> ValidationBatches:
    """One pass over a held-out part, in as many streams as are much longer than what they read twice to warm up."""
    positions = Positions.of(part, vocabulary)
    streams = max(1, min(_VALIDATION_STREAMS, len(positions) // 2048))
    return ValidationBatches(positions, seq_length, streams)


def budget_spent(training: TrainingConfig, steps_per_epoch: int, step: int, elapsed: float) -> float:
    """The share of the budget used, 0 to 1: of several budgets, the one nearest its end."""
    shares = [0.0]
    if training.steps:
        shares.append(step / training.steps)
    if training.epochs:
        shares.append(step / max(1, math.ceil(training.epochs * steps_per_epoch)))
    if training.minutes:
        shares.append(elapsed / (60 * training.minutes))
    return min(1.0, max(shares))


def reason_to_end(task: Task, step: int, progress: Progress) -> str:
    """Why training is over: "budget", "patience", or "" if it is not."""
    training = task.config.training
    if budget_spent(training, task.train.steps_per_epoch, step, progress.elapsed) >= 1:
        return "budget"
    patience = training.patience
    if not training.has_budget:
        return "patience" if progress.curve.plateau(patience).ended else ""
    return "patience" if patience and progress.validations_since_best >= patience else ""
