"""What is not given is derived from the text, the budget and the machine."""

import dataclasses
from typing import get_args

import jax
import pytest

from charrnn.config import ModelConfig, Optimizer, TrainingConfig
from charrnn.errors import CorpusError
from charrnn.nn.cells import CELLS
from charrnn.nn.network import create
from charrnn.training import speed
from charrnn.training.recipe import WIDTHS, adapting, characters_read, dropout_for, recurrent_weights, resolve
from charrnn.training.speed import Speed

LAPTOP = Speed(step=1.7e-6, products=7e11)
SERVER = Speed(step=1.7e-6, products=7e12)


def width(positions: int, machine: Speed = LAPTOP, **budget: float) -> int:
    return resolve(ModelConfig(), TrainingConfig(**budget), positions, positions // 10, 65, machine)[0].hidden_size


def test_the_recipe_fills_in_only_what_is_not_given():
    model, training = resolve(ModelConfig(hidden_size=99), TrainingConfig(batch_size=3), 1_000_000, 100_000, 65)
    assert (model.hidden_size, training.batch_size) == (99, 3)
    assert training.minutes and training.epochs and training.eval_every and model.embedding_size == 0
    unbounded = resolve(ModelConfig(), TrainingConfig(patience=3), 1_000_000, 100_000, 65)[1]
    assert not unbounded.has_budget
    assert resolve(ModelConfig(), TrainingConfig(steps=5), 10_000, 1_000, 5_000)[0].embedding_size == 128
    with pytest.raises(CorpusError, match="fewer than one window of 64"):
        resolve(ModelConfig(), TrainingConfig(), 50, 5, 30)


@pytest.mark.parametrize("less, more", [
    (width(10**6, minutes=0.3), width(10**6, minutes=3)),
    (width(10**6, minutes=3), width(10**6, SERVER, minutes=3)),
    (width(30_000, SERVER), width(10**6, SERVER)),
    (width(10_000), width(30_000)),
    (width(10**6, minutes=60, epochs=1), width(10**6, minutes=60)),
    (width(30_000, epochs=20), width(10**6, epochs=20)),
    (width(10**6, steps=500), width(10**6, steps=20_000)),
    (width(10**6, epochs=1), width(10**6, epochs=20)),
])  # fmt: skip
def test_more_time_text_or_speed_makes_a_wider_network(less: int, more: int):
    assert WIDTHS[0] <= less < more <= WIDTHS[-1]


@pytest.mark.parametrize("size, hidden", [("tiny", 128), ("small", 256), ("medium", 512), ("large", 1024)])
def test_the_dial_has_fixed_points(size, hidden):
    model, training = resolve(ModelConfig(), TrainingConfig(size=size, minutes=1), 10**6, 10**5, 65, LAPTOP)
    assert model.hidden_size == hidden and training.size == size


def test_the_rate_is_of_the_optimizers_kind():
    rates = {}
    for name in get_args(Optimizer):
        _, training = resolve(ModelConfig(), TrainingConfig(optimizer=name, size="small"), 10**6, 10**5, 65)
        rates[name] = training.learning_rate
    assert rates == {"adamw": 0.015, "adam": 0.015, "muon": 0.015, "sgd": 1.5}


@pytest.mark.parametrize("before, now, rate", [
    ("adamw", "muon", 0.006), ("sgd", "sgd", 0.006), ("sgd", "adamw", 0.0045), ("adamw", "sgd", 0.45),
])  # fmt: skip
def test_fine_tuning_takes_no_rate_of_another_kind(before: str, now: str, rate: float):
    found = adapting(TrainingConfig(optimizer=now), TrainingConfig(optimizer=before, learning_rate=0.02), 256)
    assert found.learning_rate == pytest.approx(rate)
    assert adapting(TrainingConfig(learning_rate=0.5), TrainingConfig(learning_rate=0.02), 256).learning_rate == 0.5


def test_two_layers_are_narrower_than_one():
    one, two = (resolve(ModelConfig(num_layers=layers), TrainingConfig(minutes=2), 10**6, 10**5, 65, LAPTOP)[0]
                for layers in (1, 2))  # fmt: skip
    assert two.hidden_size < one.hidden_size


def test_of_the_budgets_the_first_to_end_counts():
    budgets = ({"steps": 100}, {"epochs": 2}, {"minutes": 1}, {"steps": 100, "epochs": 2, "minutes": 1})
    read = [characters_read(ModelConfig(), TrainingConfig(**budget), 10**6, 65, LAPTOP, 256) for budget in budgets]
    assert read[:2] == [100 * 32 * 64, 2e6] and read[3] == min(read)
    assert characters_read(ModelConfig(), TrainingConfig(minutes=1), 10**6, 65, None, 256) == 60e6  # as if without


def test_a_small_text_has_as_wide_a_network_as_the_time_allows():
    widths = [resolve(ModelConfig(), TrainingConfig(**budget), 27_000, 3_000, 65, LAPTOP)[0].hidden_size
              for budget in ({"minutes": 5}, {"minutes": 5, "epochs": 60}, {}, {"epochs": 60})]  # fmt: skip
    assert widths[0] == widths[1] == widths[2] > widths[3]


@pytest.mark.parametrize("positions", [27_000, 10**6, 29 * 10**6])
def test_without_a_budget_the_network_is_made_for_the_default_one(positions: int):
    chosen = [resolve(ModelConfig(), TrainingConfig(**options), positions, positions // 9, 65, LAPTOP)[0]
              for options in ({"patience": 3}, {})]  # fmt: skip
    assert chosen[0] == chosen[1]


def test_a_large_alphabet_takes_time_from_the_width():
    few, many = (resolve(ModelConfig(), TrainingConfig(minutes=1.5), 540_000, 60_000, size, LAPTOP)[0]
                 for size in (65, 6_259))  # fmt: skip
    assert few.hidden_size > many.hidden_size and few.dropout > many.dropout


@pytest.mark.parametrize("budget, least", [({}, 3), ({"minutes": 0.36}, 2), ({"minutes": 30}, 3), ({"steps": 90}, 10)])
@pytest.mark.parametrize("positions", [10**6, 29 * 10**6])
def test_the_held_out_text_is_read_several_times_and_not_too_often(budget: dict, least: int, positions: int):
    held_out = min(positions // 9, 10**6)
    model, training = resolve(ModelConfig(), TrainingConfig(**budget), positions, held_out, 65, LAPTOP)
    read = characters_read(model, training, positions, 65, LAPTOP, model.hidden_size)
    times = -(-read // (training.eval_every * 32 * 64))
    assert times >= least
    assert training.steps or (times - 1) * held_out / 3 <= 0.151 * read  # the last one comes after the budget


@pytest.mark.parametrize("cell", CELLS)
def test_weights_are_counted_as_the_cell_has_them(cell: str):
    config = ModelConfig(cell=cell, num_layers=3, hidden_size=8, embedding_size=6)  # type: ignore[arg-type]
    layers = jax.eval_shape(lambda: create(config, 11, 0)).layers
    matrices = [leaf for leaf in jax.tree.leaves(layers) if leaf.ndim == 2]
    looked_up = sum(leaf.size for leaf in jax.tree.leaves(layers[0].input_kernel))
    assert recurrent_weights(config, 8) == sum(matrix.size for matrix in matrices) - looked_up
    assert recurrent_weights(dataclasses.replace(config, num_layers=1), 8) >= 64


def test_one_hot_is_for_alphabets_up_to_512_characters():
    sizes = [resolve(ModelConfig(), TrainingConfig(steps=5), 10_000, 1_000, n)[0].embedding_size for n in (514, 515)]
    assert sizes == [0, 128]


def test_what_is_read_more_often_by_more_weights_is_dropped_more():
    weights = recurrent_weights(ModelConfig(), 256)
    shares = [dropout_for(read, weights, 10**6) for read in (1e4, 1e6, 1e7, 1e8, 1e12)]
    units, recurrent = zip(*shares, strict=True)
    assert list(units) == sorted(units) and units[0] == 0 and 0.1 <= units[2] <= 0.3 and units[-1] < 0.7
    assert list(recurrent) == sorted(recurrent) and recurrent[1] == 0 and 0.15 <= recurrent[3] <= 0.3 < recurrent[-1]


@pytest.mark.parametrize("given, dropout, weight_drop", [
    ({"dropout": 0.0}, 0, 0), ({"dropout": 0.1}, 0.1, 0.1), ({"dropout": 0.5, "weight_drop": 0.0}, 0.5, 0),
    ({"dropout": 0.0, "weight_drop": 0.3}, 0, 0.3), ({"dropout": 0.5, "cell": "mingru"}, 0.5, None),
])  # fmt: skip
def test_what_is_given_counts_and_no_dropout_means_of_weights_too(given, dropout, weight_drop):
    model, _ = resolve(ModelConfig(hidden_size=512, **given), TrainingConfig(epochs=50), 100_000, 10_000, 65)
    assert (model.dropout, model.weight_drop) == (dropout, weight_drop)


def test_the_machine_s_best_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "usable_cache_folder", lambda: tmp_path)
    first = speed.speed_of_this_machine("float32")
    assert 0 < first.step < 1 and first.products > 1e6
    for name in ("products", "step"):  # a busy machine, a little faster, much faster, busy again
        known = speed.Speed(1.0, 1.0)
        speed._write(tmp_path / "speed.json", {})
        for factor, wanted in ((1.0, 1.0), (0.5, 1.0), (1.2, 1.0), (2.0, 2.0), (0.5, 2.0)):
            now = dataclasses.replace(known, **{name: factor if name == "products" else 1 / factor})
            monkeypatch.setattr(speed, "_speed_of_products", lambda precision, seconds, now=now: now.products)
            monkeypatch.setattr(speed, "_time_of_a_step", lambda seconds, now=now: now.step)
            wanted = dataclasses.replace(known, **{name: wanted if name == "products" else 1 / wanted})
            assert speed.speed_of_this_machine("float32") == wanted
    assert speed.speed_of_this_machine("bfloat16") == now
    (tmp_path / "speed.json").write_text("[")  # damaged: measured anew, and kept
    assert speed.speed_of_this_machine("float32") == now
    assert set(speed._read(tmp_path / "speed.json").values()) == {now}


def test_wider_networks_train_more_slowly_and_a_step_has_its_cost():
    rates = [LAPTOP.characters_a_second(4 * hidden**2, 32) for hidden in WIDTHS]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < 32 / LAPTOP.step
