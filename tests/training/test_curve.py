"""What a curve of validations says about the rate, the end, and learning by heart."""

import json
import random

import pytest

from charrnn.training.curve import Curve, Plateau, Point
from charrnn.training.progress import Progress


def curve_of(*validations: float, training: tuple[float, ...] = ()) -> Curve:
    curve = Curve()
    for k, nats in enumerate(validations):
        curve = curve.after(Point(10 * (k + 1), training[k] if training else 1.0, nats), 2)
    return curve


@pytest.mark.parametrize(("validations", "expected"), [
    ((), Plateau(0, False)),
    ((3.0, 2.0, 2.5), Plateau(0, False)),
    ((3.0, 2.0, 2.5, 2.0), Plateau(1, False)),
    ((3.0, 2.0, 2.5, 2.0, 2.1), Plateau(1, False)),
    ((3.0, 2.0, 2.5, 2.0, 2.1, 2.2), Plateau(1, True)),  # the halved rate brought nothing
    ((3.0, 2.0, 2.5, 2.0, 1.9, 1.9, 1.9), Plateau(2, False)),  # it did bring something
    ((2.0, 1.9999, 1.9998), Plateau(1, False)),  # too little to be worth the time
    ((2.0, 1.9989, 1.9978, 1.9967), Plateau(0, False)),  # two together are worth it
], ids=str)  # fmt: skip
def test_the_rate_falls_while_that_helps(validations: tuple[float, ...], expected: Plateau) -> None:
    assert curve_of(*validations).plateau(2) == expected


def test_overfitting_is_a_rise_while_the_training_loss_falls() -> None:
    rising, falling = (1.0, 0.8, 0.9), (1.0, 0.9, 0.5)
    found = curve_of(*rising, training=falling).overfit()
    assert found is not None and (found.best.step, found.last.step) == (20, 30)
    assert curve_of(*rising, training=(1.0, 0.5, 0.9)).overfit() is None  # it got worse at both
    assert curve_of(1.0, 0.8, 0.805, training=falling).overfit() is None  # no more than noise
    assert curve_of(1.0, 0.9, 0.8, training=falling).overfit() is None
    assert curve_of(1.0, 0.0001, 0.0002, training=falling).overfit() is None  # as good as nothing, twice
    assert Curve().overfit() is None


def test_a_run_that_ended_goes_on_with_more_patience() -> None:
    ended = curve_of(3.0, 2.0, 2.1, 2.1, 2.1, 2.1)
    assert ended.plateau(2) == (1, True) and ended.plateau(3) == (1, False) and ended.plateau(9) == (0, False)
    assert ended.plateau(0) == (0, False)


def test_what_is_saved_does_not_grow_with_the_validations() -> None:
    progress, chosen = Progress(), random.Random(0)
    for step in range(30_000):
        progress.add(chosen.random(), 1.0)
        progress.since_the_last_event()
        progress.add_point(step, chosen.random(), 3)
    text = json.dumps(progress.to_json())
    assert len(text) < 2000
    assert Progress.from_json(json.loads(text)).curve == progress.curve


def test_an_event_tells_of_the_finite_ones_since_the_last() -> None:
    progress = Progress()
    for loss, norm in ((1.0, 5.0), (float("nan"), 7.0), (2.0, float("inf"))):
        progress.add(loss, norm)
    assert progress.since_the_last_event() == {"loss": 1.5, "gradient_norm": 7.0, "skipped": 0}
    assert progress.since_the_last_event() == {"loss": None, "gradient_norm": None, "skipped": 0}
