"""The training loop: a generator of events. It shows nothing; whoever consumes the events does."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from charrnn.checkpoint import RunFolder, load_weights
from charrnn.config import RunConfig, TrainingConfig
from charrnn.errors import TrainingError
from charrnn.nn.network import Network
from charrnn.text.batches import Positions, TrainBatches, ValidationBatches
from charrnn.text.selection import Parts, Selection
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.curve import Overfit, Plateau, Point, overfit, plateau
from charrnn.training.objective import BITS_PER_NAT
from charrnn.training.optimizer import learning_rate, learning_rate_without_budget
from charrnn.training.step import StepSettings, TrainState, initial_state, place, stack, train_steps, validate

_MOST_STEPS_A_CALL = 16
_SECONDS_A_CALL = 0.25
_VALIDATION_STREAMS = 64


@dataclass(frozen=True)
class Trained:
    """Some steps were taken. `loss` is their mean in nats per character, `spent` the share of the budget."""

    step: int
    epoch: float
    loss: float
    gradient_norm: float
    learning_rate: float
    characters_per_second: float
    elapsed: float
    spent: float


@dataclass(frozen=True)
class Validated:
    """The held-out text was read. `nats` per character; `best` when none before was as low."""

    step: int
    epoch: float
    nats: float
    best: bool
    elapsed: float
    network: Network

    @property
    def bits_per_character(self) -> float:
        """The figure people look at."""
        return self.nats * BITS_PER_NAT


@dataclass(frozen=True)
class Saved:
    """The exact training state of a step is on disk."""

    step: int


@dataclass(frozen=True)
class Warned:
    """Something a person should know, that does not stop the run."""

    text: str


@dataclass(frozen=True)
class Slowed:
    """The validations no longer fell, so the learning rate was halved to this."""

    step: int
    learning_rate: float


@dataclass(frozen=True)
class Overfitted:
    """At the end: the text is being learnt by heart, the held-out text having become harder since the best step."""

    overfit: Overfit


@dataclass(frozen=True)
class Tested:
    """At the end: the best weights read the text kept back for a test, once. `nats` per character."""

    step: int
    best_step: int
    nats: float
    characters: int


@dataclass(frozen=True)
class Finished:
    """The end. `reason` is "budget", "patience" or "stopped" (asked to; the run can be resumed)."""

    step: int
    reason: str
    best_nats: float
    best_step: int
    elapsed: float


Event = Trained | Validated | Saved | Warned | Slowed | Overfitted | Tested | Finished


@dataclass
class Progress:
    """What the loop remembers besides the training state; saved with it."""

    elapsed: float = 0.0
    best_nats: float = math.inf
    best_step: int = 0
    validated_step: int = -1
    validations_since_best: int = 0
    curve: list[Point] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_steps: int = 0

    def __post_init__(self) -> None:
        self.curve = [Point(*point) for point in self.curve]  # JSON has lists

    def add_point(self, step: int, nats: float) -> None:
        """Note a validation and the mean training loss since the one before."""
        training = self.loss_sum / self.loss_steps if self.loss_steps else math.inf
        self.curve.append(Point(step, training, nats))
        self.loss_sum, self.loss_steps = 0.0, 0


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


class _Loop:
    """One run's training in progress. `events` is the whole of it; the rest are its parts."""

    def __init__(self, task: Task, state: TrainState, progress: Progress, should_stop: Callable[[], bool]):
        self.task, self.progress, self.should_stop = task, progress, should_stop
        self.training = task.config.training
        self.settings = StepSettings.of(task.config)
        self.state = place(state, self.settings)
        self.step = int(state.step)
        self.started = time.monotonic() - progress.elapsed
        self.steps_a_call = 1
        self.last_save = time.monotonic()

    def events(self) -> Iterator[Event]:
        reason = ""
        if self.task.network is not None and self.step == 0:
            yield self._validate()  # what it starts from is the first to be the best
        while not reason:
            reason = self._reason_to_end()
            if not reason:
                yield self._train()
            if self._validation_due(reason):
                before = self._plateau.halvings
                yield self._validate()
                if self._plateau.halvings > before:
                    yield Slowed(self.step, self._rate(self.step))
            minutes_since_save = (time.monotonic() - self.last_save) / 60
            if reason or minutes_since_save >= self.training.checkpoint_every:
                yield self._save()
        yield from self._verdicts(reason)
        yield Finished(self.step, reason, self.progress.best_nats, self.progress.best_step, self.progress.elapsed)

    def _reason_to_end(self) -> str:
        self.progress.elapsed = time.monotonic() - self.started
        if self._spent(self.step) >= 1:
            return "budget"
        if self.should_stop():
            return "stopped"
        patience = self.training.patience
        if not self.training.has_budget:
            return "patience" if self._plateau.ended else ""
        return "patience" if patience and self.progress.validations_since_best >= patience else ""

    def _spent(self, step: int) -> float:
        return budget_spent(self.training, self.task.train.steps_per_epoch, step, self.progress.elapsed)

    @property
    def _plateau(self) -> Plateau:
        if self.training.has_budget:
            return Plateau()
        return plateau(self.progress.curve, self.training.patience)

    def _rate(self, step: int) -> float:
        if self.training.has_budget:
            return learning_rate(self.training, self._spent(step))
        return learning_rate_without_budget(self.training, step, self._plateau.halvings)

    def _validation_due(self, reason: str) -> bool:
        if self.step == self.progress.validated_step or reason == "stopped":
            return False
        return bool(reason) or self.step % self._eval_every == 0

    @property
    def _eval_every(self) -> int:
        assert self.training.eval_every
        return self.training.eval_every

    def _train(self) -> Trained:
        """One jitted call: as many steps as fill a quarter of a second, up to the next validation."""
        count = min(self.steps_a_call, self._eval_every - self.step % self._eval_every)
        while count > 1 and self._spent(self.step + count - 1) >= 1:
            count -= 1
        before = time.monotonic()
        rates = np.zeros(_MOST_STEPS_A_CALL, np.float32)
        rates[:count] = [self._rate(self.step + k) for k in range(count)]
        batches = stack([self.task.train.batch(self.step + k) for k in range(count)], _MOST_STEPS_A_CALL)
        self.state, losses, norms = train_steps(self.state, batches, rates, np.int32(count), self.settings)
        loss, norm = float(losses[:count].mean()), float(norms[:count].max())
        seconds = time.monotonic() - before
        self.step += count
        if not math.isfinite(loss + norm):
            raise TrainingError(
                f"the loss became {loss} near step {self.step}: try a lower --learning-rate than {rates[0]:.2g}; "
                "what was saved before is untouched"
            )
        self.steps_a_call = max(1, min(_MOST_STEPS_A_CALL, int(_SECONDS_A_CALL * count / seconds)))
        self.progress.elapsed = time.monotonic() - self.started
        self.progress.loss_sum += loss * count
        self.progress.loss_steps += count
        characters = int((batches.targets[:count] >= 0).sum())
        event = Trained(
            self.step, self._epoch(), loss, norm, float(rates[count - 1]), characters / seconds,
            self.progress.elapsed, self._spent(self.step),
        )  # fmt: skip
        self.task.folder.append_metrics({"event": "train", **asdict(event)})
        return event

    def _validate(self) -> Validated:
        nats = validate(self.state.learnt, self.task.validation, self.training.precision)
        progress = self.progress
        best = nats < progress.best_nats
        progress.validated_step = self.step
        progress.add_point(self.step, nats)
        progress.validations_since_best = 0 if best else progress.validations_since_best + 1
        progress.elapsed = time.monotonic() - self.started
        figures = {"step": self.step, "epoch": self._epoch(), "nats": nats, "elapsed": progress.elapsed}
        if best:
            progress.best_nats, progress.best_step = nats, self.step
            self.task.folder.save_weights(self.state.learnt, figures)
        self.task.folder.append_metrics({"event": "validation", "best": best, **figures})
        # The next call donates the state's buffers; whoever keeps the event keeps a copy.
        network = jax.tree.map(lambda weights: jnp.asarray(np.array(weights)), self.state.learnt)
        return Validated(self.step, self._epoch(), nats, best, progress.elapsed, network)

    def _save(self) -> Saved:
        self.progress.elapsed = time.monotonic() - self.started
        self.task.folder.save_step(self.step, self.state, asdict(self.progress))
        self.last_save = time.monotonic()
        return Saved(self.step)

    def _verdicts(self, reason: str) -> Iterator[Event]:
        """What the end of a run has to say; one that was asked to stop is not tested, since it may go on."""
        if found := overfit(self.progress.curve):
            yield Overfitted(found)
        if self.task.test is None or reason == "stopped":
            return
        nats = validate(load_weights(self.task.folder.path)[2], self.task.test, self.training.precision)
        event = Tested(self.step, self.progress.best_step, nats, len(self.task.test.positions))
        self.task.folder.append_metrics({"event": "test", **asdict(event)})
        yield event

    def _epoch(self) -> float:
        return self.step / self.task.train.steps_per_epoch


def run(task: Task, *, resume: bool, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train until the budget ends, patience does, or `should_stop()`; then save.

    With `resume` the newest whole step of the run folder is where it starts. Raises TrainingError
    when the loss is not finite, CheckpointError when a step cannot be saved or restored.
    """
    state, progress = initial_state(task.config, task.vocabulary.size, task.network), Progress()
    if resume and task.folder.steps():
        warnings: list[str] = []
        state, saved, step = task.folder.restore(state, warnings.append)
        progress = Progress(**saved)
        task.folder.truncate_metrics(step)
        yield from map(Warned, warnings)
    yield from _Loop(task, state, progress, should_stop).events()
