"""What training remembers besides its arrays: how far it is, how well it does, whether it is still sound."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from charrnn.training.curve import Curve, Point

_MOST_SKIPPED_IN_A_ROW = 10
_SMOOTHING = 0.98
_HIGH_ABOVE_LOWEST, _HIGH_SHARE = 1.0, 0.5
_MOST_STEPS_HIGH = 500
_LOWER_RATE = 0.25
MOST_TIMES_BACK = 3
_NOT_NUMBERS = ("made_from", "health", "losses", "norms", "curve")


@dataclass
class Health:
    """Whether the loss says that the weights are sound.

    skipped: updates left out because the loss or a gradient was not finite. smoothed, lowest: the
    running mean of the loss in nats and its lowest value. steps_high: steps since it rose far above that.
    times_back: how often training went back to an earlier step.
    """

    skipped: int = 0
    skipped_in_a_row: int = 0
    smoothed: float = math.nan
    lowest: float = math.inf
    steps_high: int = 0
    times_back: int = 0

    def observe(self, losses: np.ndarray, norms: np.ndarray) -> None:
        """Take in the loss and gradient norm of some steps, in order; once it has diverged, no more."""
        for loss, norm in zip(losses.tolist(), norms.tolist(), strict=True):
            if self.diverged:
                return
            if not math.isfinite(loss + norm):
                self.skipped += 1
                self.skipped_in_a_row += 1
                continue
            self.skipped_in_a_row = 0
            known = math.isfinite(self.smoothed)
            self.smoothed = _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss if known else loss
            self.lowest = min(self.lowest, self.smoothed)
            high = self.lowest + max(_HIGH_ABOVE_LOWEST, _HIGH_SHARE * self.lowest)
            self.steps_high = self.steps_high + 1 if self.smoothed > high else 0

    @property
    def sound(self) -> bool:
        """Whether the last step was an ordinary one, to which training may go back."""
        return not self.skipped_in_a_row and not self.steps_high

    @property
    def diverged(self) -> str:
        """Why training cannot go on from here, or ""."""
        if self.skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW:
            return f"the loss or its gradient was not a finite number {self.skipped_in_a_row} times in a row"
        if self.steps_high >= _MOST_STEPS_HIGH:
            return (
                f"the loss rose from {self.lowest:.2f} to {self.smoothed:.2f} nats"
                f" and did not come down for {self.steps_high} steps"
            )
        return ""

    @property
    def rate_factor(self) -> float:
        """What the learning rate is multiplied by: less after each time back."""
        return float(_LOWER_RATE**self.times_back)


@dataclass
class Progress:
    """Saved with every step, so that a resumed run goes on as if it had not stopped.

    made_from: what the run was made from (`Task.made_from`). validated_step: the last step that was
    validated. sound_step: the last saved step that was sound, -1 if none was. metrics: events in
    `metrics.jsonl` so far. temperature: what the logits of the next network to validate are divided by.
    losses, norms: of the steps since the last of them. curve: what the validations say, with the mean
    training loss between them, whose sum and count since the last are loss_sum and loss_steps. However
    long the run, this stays small.
    """

    made_from: str = ""
    elapsed: float = 0.0
    best_nats: float = math.inf
    best_step: int = 0
    validated_step: int = -1
    validations_since_best: int = 0
    sound_step: int = -1
    metrics: int = 0
    temperature: float = 1.0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    curve: Curve = Curve()
    loss_sum: float = 0.0
    loss_steps: int = 0
    health: Health = field(default_factory=Health)

    def add(self, loss: float, norm: float) -> None:
        """Note the training loss and the gradient norm of a step."""
        self.losses.append(loss)
        self.norms.append(norm)
        if math.isfinite(loss):
            self.loss_sum += loss
            self.loss_steps += 1

    def since_the_last_event(self) -> dict[str, float | None]:
        """Mean loss, largest gradient norm and all updates left out, as JSON values; losses and norms begin anew."""
        loss, norm = (None if math.isnan(value) else value for value in (mean(self.losses), largest(self.norms)))
        self.losses, self.norms = [], []
        return {"loss": loss, "gradient_norm": norm, "skipped": self.health.skipped}

    def add_point(self, step: int, nats: float, patience: int) -> None:
        """Note a validation and the mean training loss since the one before."""
        training = self.loss_sum / self.loss_steps if self.loss_steps else math.inf
        self.curve = self.curve.after(Point(step, training, nats), patience)
        self.loss_sum, self.loss_steps = 0.0, 0

    def to_json(self) -> dict[str, Any]:
        """This as JSON values; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Any) -> "Progress":
        """Read what `to_json` made. Raises TypeError or ValueError for anything else."""
        health = Health(**_numbers_like(Health(), raw["health"]))
        rest = {key: value for key, value in raw.items() if key not in _NOT_NUMBERS}
        curve = _curve(raw["curve"])
        losses, norms = ([float(value) for value in raw[key]] for key in ("losses", "norms"))
        numbers = _numbers_like(cls(), rest)
        return cls(made_from=str(raw["made_from"]), losses=losses, norms=norms, curve=curve, health=health, **numbers)


def mean(values: np.ndarray | list[float]) -> float:
    """The mean of the finite ones; NaN if there are none."""
    finite = [float(value) for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def largest(values: np.ndarray | list[float]) -> float:
    """The largest finite one; NaN if there are none."""
    return max((float(value) for value in values if math.isfinite(value)), default=math.nan)


def _curve(raw: dict[str, Any]) -> Curve:
    numbers = {key: value for key, value in raw.items() if key not in ("best", "last")}
    return Curve(_point(raw["best"]), _point(raw["last"]), **_numbers_like(Curve(), numbers))


def _point(raw: Any) -> Point | None:
    if raw is None:
        return None
    step, training, validation = raw
    return Point(int(step), float(training), float(validation))


def _numbers_like(example: Any, raw: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a JSON object, each of the type that the example's field has."""
    checked = {}
    for name, value in raw.items():
        kind = type(getattr(example, name, None))
        if kind not in (int, float) or isinstance(value, bool) or not isinstance(value, int | kind):
            raise ValueError(f"{name} is {value!r}"[:80])
        checked[name] = kind(value)
    return checked
