"""The temperature that makes the held-out text's nats least."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.model import load
from charrnn.nn.network import create
from charrnn.trainer import start
from charrnn.training import loop
from charrnn.training.validation import Validation, at_temperature, better_temperature, surprise, validate

CONFIG = ModelConfig(hidden_size=8, embedding_size=0, dropout=0.0)
RHYME = "the cat sat on the mat and the dog sat on the log.\n"


def validation_of(logits, targets):
    return Validation(*(float(part.mean()) for part in surprise(logits, targets)))


@pytest.fixture
def logits_and_targets():
    """Logits that are 1.4 times as sure as they are right."""
    generator = np.random.default_rng(0)
    honest = generator.normal(size=(400, 50, 12)).astype(np.float32) * 1.5
    targets = (honest + generator.gumbel(size=honest.shape)).argmax(-1).astype(np.int32)
    return jnp.asarray(1.4 * honest), jnp.asarray(targets)


def test_surprise_is_the_nats_the_entropy_and_its_variance(logits_and_targets):
    logits, targets = logits_and_targets
    exact = np.asarray(logits, np.float64)[:2, :3]
    probabilities = np.exp(exact) / np.exp(exact).sum(-1, keepdims=True)
    rows, columns = np.indices((2, 3))
    nats = -np.log(probabilities)
    expected = (probabilities * nats).sum(-1)
    here = targets[:2, :3].at[1, 2].set(-1)
    found = surprise(logits[:2, :3], here)
    wanted = np.stack([
        nats[rows, columns, np.maximum(here, 0)], expected, (probabilities * nats**2).sum(-1) - expected**2
    ])  # fmt: skip
    wanted[:, 1, 2] = 0  # no target
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_the_temperature_of_logits_that_are_too_sure_is_found(logits_and_targets):
    logits, targets = logits_and_targets
    temperature = 1.0
    for _ in range(3):
        temperature = better_temperature(validation_of(logits / temperature, targets), temperature)
    assert temperature == pytest.approx(1.4, rel=0.02)
    nats = [
        validation_of(logits / other, targets).nats for other in (0.97 * temperature, temperature, 1.03 * temperature)
    ]
    assert nats[1] == min(nats)


@pytest.mark.parametrize(
    ("found", "before", "after"),
    [
        (Validation(2.0, 2.0, 0.5), 1.1, 1.1),  # as surprised as it expects to be
        (Validation(9.0, 1.0, 0.5), 1.0, 2.0),
        (Validation(1.0, 9.0, 0.5), 1.0, 0.5),
        (Validation(3.0, 3.0, 0.0), 1.3, 1.3),  # every character as likely: no temperature changes that
        (Validation(float("nan"), float("nan"), float("nan")), 1.2, 1.2),
    ],
)
def test_the_temperature_stays_within_its_bounds(found, before, after):
    assert better_temperature(found, before) == pytest.approx(after)


def test_a_network_at_a_temperature_divides_its_logits():
    network = create(CONFIG, 11, 0)
    hidden = jax.random.normal(jax.random.key(1), (3, 8))
    np.testing.assert_allclose(
        at_temperature(network, 1.25).head(hidden, "float32"), network.head(hidden, "float32") / 1.25, rtol=1e-5
    )


def job_of(folder, times=60):
    text = folder / "rhyme.txt"
    text.write_text(RHYME * times)
    return start(
        (str(text),), checkpoints=folder, hidden_size=16, seq_length=16, batch_size=4, learning_rate=0.02,
        precision="float32", dropout=0.2, weight_drop=0.1, steps=60, eval_every=20,
    )  # fmt: skip


def test_held_out_streams_read_512_characters_before_they_count(tmp_path):
    held_out = job_of(tmp_path, times=3000).task.validation
    counts = [(held_out.batch(window).targets >= 0).sum() for window in range(len(held_out))]
    assert held_out.batch_size > 1 and sum(counts) == len(held_out.positions)
    assert not any(counts[: 512 // 16]) and counts[512 // 16]


def test_validation_has_the_precision_that_it_is_asked_for(tmp_path):
    task = job_of(tmp_path).task
    network = task.first_state().learnt
    exact, rounded = (validate(network, task.validation, precision).nats for precision in ("float32", "bfloat16"))
    assert exact != rounded and exact == pytest.approx(rounded, rel=1e-2)


def test_what_is_saved_has_the_temperature_it_was_validated_with(tmp_path):
    job = job_of(tmp_path)
    validated = [event for event in job.events() if isinstance(event, loop.Validated)]
    told = [event["temperature"] for event in job.task.folder.metrics() if event["event"] == "validation"]
    assert told[0] == 1.0 and len({*told}) == 3
    best = min(validated, key=lambda event: event.nats)
    np.testing.assert_array_equal(load(job.task.folder.path).network.head_kernel[...], best.network.head_kernel[...])


def test_the_best_validation_stays_told_when_training_goes_back(tmp_path, monkeypatch):
    job, real, calls = job_of(tmp_path), loop.validate, []

    def the_second_is_no_number_and_the_first_the_best(*arguments):
        calls.append(1)
        return real(*arguments)._replace(nats=math.nan if len(calls) == 2 else float(len(calls)))

    monkeypatch.setattr(loop, "validate", the_second_is_no_number_and_the_first_the_best)
    *_, last = job.events()
    events = job.task.folder.metrics()
    assert "back" in {event["event"] for event in events}
    told = [event["nats"] for event in events if event["event"] == "validation"]
    assert min(told) == last.best_nats == load(job.task.folder.path).validation["nats"] == 1.0
