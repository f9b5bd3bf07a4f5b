"""What the validations so far say: when to lower the learning rate, when to stop, whether a text is learnt by heart.

A pure function of the validations, as small after a million of them as after one: it is saved with the run
at every step, so that a resumed run decides as an unbroken one.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

_WORTHWHILE = 0.999
_CLEAR_RISE = 0.01


class Point(NamedTuple):
    """One validation: its nats per character, and the mean training loss since the one before."""

    step: int
    training: float
    validation: float


class Plateau(NamedTuple):
    """How often the learning rate was halved so far, and whether halving it no longer helps."""

    halvings: int = 0
    ended: bool = False


class Overfit(NamedTuple):
    """The best validation and the last, which is worse although the training loss fell meanwhile."""

    best: Point
    last: Point


@dataclass(frozen=True)
class Curve:
    """The validations so far, as much of them as decides anything.

    best, last: None before the first. to_beat: the last validation that was worth its time, in nats.
    in_vain: validations since then. halvings: of the rate, before then.
    """

    best: Point | None = None
    last: Point | None = None
    to_beat: float = float("inf")
    in_vain: int = 0
    halvings: int = 0

    def after(self, point: Point, patience: int) -> "Curve":
        """The curve with one more validation."""
        best = point if self.best is None or point.validation < self.best.validation else self.best
        if point.validation < self.to_beat * _WORTHWHILE:
            return Curve(best, point, point.validation, 0, self.plateau(patience).halvings)
        return dataclasses.replace(self, best=best, last=point, in_vain=self.in_vain + 1)

    def plateau(self, patience: int) -> Plateau:
        """Where a run without a budget stands.

        After `patience` validations in a row, none a thousandth better than the best before, the rate is
        halved; when as many again bring nothing either, the run ends.
        """
        halved = 0 < patience <= self.in_vain
        return Plateau(self.halvings + halved, halved and self.in_vain >= 2 * patience)

    def overfit(self) -> Overfit | None:
        """Whether the held-out text became clearly harder while the training text became easier."""
        if self.best is None or self.last is None:
            return None
        best, last = self.best, self.last
        worse = last.validation - best.validation > _CLEAR_RISE * max(1.0, best.validation)  # nats, then a share
        return Overfit(best, last) if worse and last.training < best.training else None
