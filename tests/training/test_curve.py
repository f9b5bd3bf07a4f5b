"""What a curve of validations says about the rate, the end, and learning by heart."""

import pytest

from charrnn.training.curve import Plateau, Point, overfit, plateau


def curve_of(*validations: float, training: tuple[float, ...] = ()) -> list[Point]:
    return [Point(10 * (k + 1), training[k] if training else 1.0, nats) for k, nats in enumerate(validations)]


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
    assert plateau(curve_of(*validations), 2) == expected


def test_overfitting_is_a_rise_while_the_training_loss_falls() -> None:
    rising, falling = (1.0, 0.8, 0.9), (1.0, 0.9, 0.5)
    found = overfit(curve_of(*rising, training=falling))
    assert found is not None and (found.best.step, found.last.step) == (20, 30)
    assert overfit(curve_of(*rising, training=(1.0, 0.5, 0.9))) is None  # it got worse at both
    assert overfit(curve_of(1.0, 0.8, 0.805, training=falling)) is None  # no more than noise
    assert overfit(curve_of(1.0, 0.9, 0.8, training=falling)) is None
    assert overfit(curve_of(1.0, 0.0001, 0.0002, training=falling)) is None  # as good as nothing, twice
    assert overfit([]) is None
