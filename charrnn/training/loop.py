"""The training loop: a generator of events. It shows nothing; whoever consumes the events does."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from charrnn.checkpoint import RunFolder, host_copy, load_weights
from charrnn.checkpoint.arrays import first_line
from charrnn.checkpoint.background import Background
from charrnn.errors import CheckpointError, TrainingError
from charrnn.text.batches import Batch
from charrnn.training.curve import Plateau
from charrnn.training.events import Event, Finished, Overfitted, Saved, Slowed, Tested, Trained, Validated, Warned
from charrnn.training.memory import give_back_freed_memory, too_large
from charrnn.training.optimizer import learning_rate, learning_rate_without_budget
from charrnn.training.progress import MOST_TIMES_BACK, Progress, largest, mean
from charrnn.training.step import StepSettings, TrainState, place, stack, train_steps
from charrnn.training.task import Task, budget_spent, reason_to_end
from charrnn.training.validation import at_temperature, better_temperature, validate

_MOST_STEPS_A_CALL = 16
_MOST_STEPS_AN_EVENT = 16
_SECONDS_A_CALL = 0.25


class _Loop:
    """One run's training in progress. `events` is the whole of it; the rest are its parts."""

    def __init__(self, task: Task, state: TrainState, progress: Progress, saved: bool, should_stop: Callable[[], bool]):
        self.task, self.should_stop = task, should_stop
        self.training = task.config.training
        self.settings = StepSettings.of(task.config)
        self.steps_a_call = 1
        self.last_save = time.monotonic()
        self.saver: Background[Saved | None] = Background()
        self._take(state, progress, saved)

    def _take(self, state: TrainState, progress: Progress, saved: bool) -> None:
        """Go on from a state, `saved` if it is on disk as it is."""
        self.state, self.progress = place(state, self.settings), progress
        self.step = int(state.step)
        self.started = time.monotonic() - progress.elapsed
        self.saved_at = (self.step, progress.metrics) if saved else (-1, -1)
        self.event_started, self.event_characters = time.monotonic(), 0

    def events(self) -> Iterator[Event]:
        begins = not self._reason_to_end()
        if begins:
            self._compile()
        if self.step and self._validation_due(""):  # a stop came before it
            yield from self._validate()
        if self.task.config.init_from and self.step == 0 and self.progress.validated_step < 0:
            yield from self._validate()  # what it starts from is the first to be the best
        reason = ""
        while not reason:
            reason = self._reason_to_end()
            if begins and reason == "budget":  # one call at least, however long compiling took
                reason = ""
            begins = False
            if not reason:
                yield from self._train()
            if self._validation_due(reason):
                step = self.step
                yield from self._validate()
                if self.progress.validated_step != step:  # asked to stop meanwhile, or gone back to an earlier step
                    reason = ""
            yield from self._reports()
            if reason or self._save_due():
                self._save()
        yield from self._reports(wait=True)
        yield from self._verdicts(reason)
        yield Finished(self.step, reason, self.progress.best_nats, self.progress.best_step, self.progress.elapsed)

    def _reason_to_end(self) -> str:
        self.progress.elapsed = time.monotonic() - self.started
        over = reason_to_end(self.task, self.step, self.progress)
        validated = self.step == self.progress.validated_step
        return over if (over and validated) or not self.should_stop() else "stopped"

    def _spent(self, step: int) -> float:
        return budget_spent(self.training, self.task.train.steps_per_epoch, step, self.progress.elapsed)

    def _validation_due(self, reason: str) -> bool:
        if self.step == self.progress.validated_step or reason == "stopped":
            return False
        return bool(reason) or self.step % self._eval_every == 0

    @property
    def _eval_every(self) -> int:
        assert self.training.eval_every
        return self.training.eval_every

    def _train(self) -> Iterator[Event]:
        """One jitted call: as many steps as fill a quarter of a second, up to the next validation."""
        count = min(self.steps_a_call, self._eval_every - self.step % self._eval_every)
        while count > 1 and self._spent(self.step + count - 1) >= 1:
            count -= 1
        before = time.monotonic()
        rates = np.zeros(_MOST_STEPS_A_CALL, np.float32)
        rates[:count] = [self._rate(self.step + k) for k in range(count)]
        batches = stack([self.task.train.batch(self.step + k) for k in range(count)], _MOST_STEPS_A_CALL)
        losses, norms = self._take_steps(batches, rates, count)
        seconds = time.monotonic() - before
        self.steps_a_call = max(1, min(_MOST_STEPS_A_CALL, int(_SECONDS_A_CALL * count / seconds)))
        self.progress.elapsed = time.monotonic() - self.started
        before_it = self.progress.health.skipped
        self.progress.health.observe(losses, norms)
        characters = self._record(batches, losses, norms, rates)
        skipped = self.progress.health.skipped
        if math.floor(math.log10(skipped or 0.1)) > math.floor(math.log10(before_it or 0.1)):  # the 1st, 10th, 100th
            so_far = f", {skipped:,} so far" if skipped > 1 else ""
            yield Warned(
                f"step {self.step:,}: the loss or its gradient is not a finite number; the update is left out{so_far}"
            )
        yield Trained(
            self.step, self._epoch(), mean(losses), largest(norms), float(rates[count - 1]), characters / seconds,
            self.progress.elapsed, self._spent(self.step),
        )  # fmt: skip
        if self.progress.health.diverged:
            yield from self._go_back(self.progress.health.diverged)

    def _take_steps(self, batches: Batch, rates: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The losses and gradient norms `[count]` of the first steps of a call."""
        try:
            self.state, losses, norms = train_steps(self.state, batches, rates, np.int32(count), self.settings)
            return np.asarray(losses)[:count], np.asarray(norms)[:count]
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise too_large(self.task, first_line(error)) from error

    def _compile(self) -> None:
        """Call the program for no step at all, so that what compiling it leaves behind is gone before the first."""
        batches = stack([self.task.train.batch(self.step)], _MOST_STEPS_A_CALL)
        self._take_steps(batches, np.zeros(_MOST_STEPS_A_CALL, np.float32), 0)
        give_back_freed_memory()

    def _rate(self, step: int) -> float:
        if self.training.has_budget:
            rate = learning_rate(self.training, self._spent(step))
        else:
            rate = learning_rate_without_budget(self.training, step, self._plateau.halvings)
        return rate * self.progress.health.rate_factor

    @property
    def _plateau(self) -> Plateau:
        if self.training.has_budget:
            return Plateau()
        return self.progress.curve.plateau(self.training.patience)

    def _record(self, batches: Batch, losses: np.ndarray, norms: np.ndarray, rates: np.ndarray) -> int:
        """Count the steps of a call, writing a line of metrics wherever one is due; returns the characters learnt.

        Lines are due at fixed steps, so that they do not depend on how many steps a call took.
        """
        learnt = (batches.targets[: len(losses)] >= 0).sum((1, 2))
        progress = self.progress
        for k, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
            self.step += 1
            progress.add(loss, norm)
            self.event_characters += int(learnt[k])
            if self.step % _MOST_STEPS_AN_EVENT and self.step % self._eval_every and self._spent(self.step) < 1:
                continue
            now = time.monotonic()
            self._write_event({
                "event": "train", "step": self.step, "epoch": self._epoch(), **progress.since_the_last_event(),
                "learning_rate": float(rates[k]), "spent": self._spent(self.step), "elapsed": progress.elapsed,
                "characters_per_second": self.event_characters / max(now - self.event_started, 1e-9),
            })  # fmt: skip
            self.event_started, self.event_characters = now, 0
        return int(learnt.sum())

    def _write_event(self, event: dict[str, object]) -> None:
        self.task.folder.append_metrics(event)
        self.progress.metrics += 1

    def _validate(self) -> Iterator[Event]:
        progress = self.progress
        temperature = progress.temperature
        network = at_temperature(host_copy(self.state.learnt), temperature)  # the next call donates the state's buffers
        found = validate(network, self.task.validation, self.training.precision, self.should_stop)
        if found is None:  # asked to stop; it is done again when the run goes on
            return
        nats = found.nats
        if not math.isfinite(nats):
            yield from self._go_back("the loss on held-out text is not a finite number")
            return
        best, halvings = nats < progress.best_nats, self._plateau.halvings
        progress.validated_step = self.step
        progress.add_point(self.step, nats, self.training.patience)
        progress.validations_since_best = 0 if best else progress.validations_since_best + 1
        progress.elapsed = time.monotonic() - self.started
        if self.step:  # what a network says of a text that it has not learnt from is no guide to the adapted one
            progress.temperature = better_temperature(found, temperature)
        figures = {
            "step": self.step, "epoch": self._epoch(), "nats": nats, "temperature": temperature,
            "elapsed": progress.elapsed,
        }  # fmt: skip
        if best:
            progress.best_nats, progress.best_step = nats, self.step
            self.saver.submit(partial(self.task.folder.save_weights, network, figures))
        self._write_event({"event": "validation", "best": best, **figures})
        if self.step and self._save_due():  # before anybody takes a long look at it
            self._save()
        yield Validated(self.step, self._epoch(), nats, temperature, best, progress.elapsed, network)
        if self._plateau.halvings > halvings:
            yield Slowed(self.step, self._rate(self.step))
        self.event_started = time.monotonic()

    def _save_due(self) -> bool:
        """After the first validation, so that there is a sound step to go back to, and then as often as asked for."""
        if self.progress.sound_step < 0 <= self.progress.validated_step and self.progress.health.sound:
            return True
        return (time.monotonic() - self.last_save) / 60 >= self.training.checkpoint_every and not self.saver.busy

    def _save(self) -> None:
        """Copy the state and hand it to the saver, unless exactly this is saved already."""
        progress = self.progress
        progress.elapsed = time.monotonic() - self.started
        self.last_save = time.monotonic()
        if self.saved_at == (self.step, progress.metrics):
            return
        self.saved_at = (self.step, progress.metrics)
        if progress.health.sound:
            progress.sound_step = self.step
        step, state, remembered = self.step, host_copy(self.state), progress.to_json()
        keep = {progress.best_step, progress.sound_step}

        def save() -> Saved:
            self.task.folder.save_step(step, state, remembered, keep)
            return Saved(step)

        self.saver.submit(save)

    def _reports(self, wait: bool = False) -> Iterator[Saved]:
        """What the saver has done since the last look. Raises StorageError for what it could not do."""
        yield from (saved for saved in self.saver.done(wait) if saved)

    def _verdicts(self, reason: str) -> Iterator[Event]:
        """What the end of a run has to say; one that was asked to stop is not tested, since it may go on."""
        if overfit := self.progress.curve.overfit():
            yield Overfitted(overfit)
        if self.task.test is None or reason == "stopped":
            return
        best = load_weights(self.task.folder.path)[2]
        found = validate(best, self.task.test, self.training.precision, self.should_stop)
        if found is not None:
            event = Tested(self.step, self.progress.best_step, found.nats, len(self.task.test.positions))
            self.task.folder.append_metrics({"event": "test", **asdict(event)})
            yield event

    def _go_back(self, why: str) -> Iterator[Event]:
        """Return to the last sound step with a lower rate. Raises TrainingError when that was tried often enough."""
        before, at = self.progress, self.step
        times = before.health.times_back + 1
        if times > MOST_TIMES_BACK:
            rate = self.training.learning_rate
            assert rate
            raise TrainingError(
                f"step {at:,}: {why}, {MOST_TIMES_BACK} times over, each with a lower rate: start anew with a lower "
                f"--learning-rate than {rate:g}, such as {rate / 100:.2g}; what was saved before is untouched"
            )
        yield from self._reports(wait=True)
        folder, warnings = self.task.folder, list[str]()
        try:
            state, progress, step = folder.restore(
                self.task.state_structure(), Progress.from_json, warnings.append, lambda saved: saved.health.sound
            )
        except CheckpointError:  # none was saved yet
            state, progress, step = self.task.first_state(), Progress(made_from=self.task.made_from), -1
        folder.discard_after(step)
        cut = folder.metrics(progress.metrics)
        earlier = [event for event in cut if event["event"] == "back" or _is_best(event, before)]
        folder.truncate_metrics(progress.metrics)
        progress = replace(
            progress, elapsed=before.elapsed, best_nats=before.best_nats, best_step=before.best_step,
            health=replace(progress.health, skipped=before.health.skipped, times_back=times),
            curve=replace(progress.curve, best=before.curve.best),
        )  # fmt: skip
        self._take(state, progress, saved=False)
        step = self.step
        for event in (*earlier, {"event": "back", "step": step, "from": at, "times": times, "why": why}):
            self._write_event(event)
        yield from map(Warned, warnings)
        yield Warned(f"step {at:,}: {why}; back to step {step:,} with the learning rate at {self._rate(step):.2g}")

    def _epoch(self) -> float:
        return self.step / self.task.train.steps_per_epoch


def _is_best(event: dict[str, Any], progress: Progress) -> bool:
    """Whether this is the validation whose weights are kept."""
    where = (event.get("step"), event.get("nats"))
    return event["event"] == "validation" and where == (progress.best_step, progress.best_nats)


def _told_of_what_is_lost(folder: RunFolder, progress: Progress, saved: bool) -> Iterator[str]:
    """Cut the metrics to what is trained again from here on, and tell what should be there and is not."""
    if not saved and folder.metrics():
        yield f"{folder.path}: it was stopped before its first save, or its steps were removed: it begins anew"
    if lost := folder.truncate_metrics(progress.metrics):
        yield f"{folder.metrics_path}: {lost:,} of its {progress.metrics:,} lines are missing or damaged"
        progress.metrics -= lost


def run(task: Task, *, resume: bool, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train until the budget ends, patience does, or `should_stop()`; then save.

    With `resume` the newest whole step of the run folder is where it starts. Raises TrainingError
    when training diverges and going back does not help, CheckpointError when no step can be
    restored, StorageError when one cannot be saved.
    """
    folder, warnings = task.folder, list[str]()
    folder.tidy()
    saved = resume and bool(folder.saved_steps())
    if saved:
        state, progress, _ = folder.restore(task.state_structure(), Progress.from_json, warnings.append)
        if progress.made_from != task.made_from:
            raise CheckpointError(
                f"{folder.path}: config.json or vocabulary.json is not what its saved steps were made with"
            )
    else:
        state, progress = task.first_state(), Progress(made_from=task.made_from)
    if resume:
        warnings.extend(_told_of_what_is_lost(folder, progress, saved))
    yield from map(Warned, warnings)
    loop = _Loop(task, state, progress, saved, should_stop)
    with closing(loop.saver):
        yield from loop.events()
