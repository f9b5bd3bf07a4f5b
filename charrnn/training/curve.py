"""What the validations so far say: when to lower the learning rate, when to stop, whether a text is learnt by heart.

Pure functions of the curve, which is saved with the run, so that a resumed run decides as an unbroken one.
"""

from collections.abc import Sequence
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


def plateau(curve: Sequence[Point], patience: int) -> Plateau:
    """Where a run without a budget stands.

    After `patience` validations in a row, none a thousandth better than the best before, the rate is
    halved; when as many again bring nothing either, the run ends.
    """
    best, waited, in_vain, halvings = float("inf"), 0, 0, 0
    for point in curve:
        if point.validation < best * _WORTHWHILE:
            best, waited, in_vain = point.validation, 0, 0
            continue
        waited += 1
        if waited == patience:
            waited, in_vain = 0, in_vain + 1
            if in_vain == 2:
                return Plateau(halvings, True)
            halvings += 1
    return Plateau(halvings)


class Overfit(NamedTuple):
    """The best validation and the last, which is worse although the training loss fell meanwhile."""

    best: Point
    last: Point


def overfit(curve: Sequence[Point]) -> Overfit | None:
    """Whether the held-out text became clearly harder while the training text became easier."""
    if not curve:
        return None
    best, last = min(curve, key=lambda point: point.validation), curve[-1]
    worse = last.validation - best.validation > _CLEAR_RISE * max(1.0, best.validation)  # nats, then a share
    return Overfit(best, last) if worse and last.training < best.training else None
