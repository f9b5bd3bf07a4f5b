"""Texts drawn from a model: options, ends, patterns, what is the same however it is drawn."""

import math
import re
from typing import Any

import jax
import numpy as np
import pytest

from charrnn.config import DataConfig, ModelConfig, RunConfig, SampleConfig, TrainingConfig
from charrnn.errors import ConfigError
from charrnn.generation.constraints import Along, MinLength, RepeatPenalty, Stop
from charrnn.generation.filters import Forbid, Greedy, MinP, Temperature, TopK, TopP
from charrnn.generation.repeats import NoRepeat
from charrnn.model import Model
from charrnn.nn.network import create
from charrnn.sampling import Sample, decode_precision, filters_for
from charrnn.text.vocabulary import EOS, UNK, Vocabulary
from charrnn.training.devices import resolve_precision

LETTERS = "abcdefgh .\n012"


def model_of(hidden_size: int) -> Model:
    shape = ModelConfig(num_layers=1, hidden_size=hidden_size, embedding_size=4)
    vocabulary, random = Vocabulary("".join(sorted(LETTERS))), np.random.default_rng(2)
    network = jax.tree.map(
        lambda weights: 2 * weights + random.normal(0, 0.3, weights.shape).astype(np.float32),
        create(shape, vocabulary.size, 1),
    )
    return Model(RunConfig((), "", DataConfig(), shape, TrainingConfig(), {}), vocabulary, network, {})


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(8)


@pytest.mark.as_drawn
def test_all_ways_of_drawing_give_the_same_text(model: Model) -> None:
    options: dict[str, Any] = {"seed": 4, "temperature": 1.1, "length": 300, "stop": ("ab", "12")}
    batch = model.sample("de", 40, **options)
    assert [sample.row for sample in batch] == list(range(40))
    assert {sample.ended for sample in batch} == {"eos", "stop"}
    for row in range(8):
        stream = model.stream("de", row=row, **options)
        assert stream.ended == "" and "".join(stream) == batch[row].text and stream.ended == batch[row].ended
    (alone,) = model.sample("de", **options)
    assert alone == batch[0]


@pytest.mark.as_drawn
@pytest.mark.parametrize("stop", ["a", ("a",), ("b.", "a0", "0a0"), ("ef", "efg")])
def test_a_stop_is_never_shown_and_never_half(model: Model, stop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"seed": 1, "length": 200, "ignore_eos": True}
    stops, (free,) = (stop,) if isinstance(stop, str) else stop, model.sample(**options)
    ends = [free.text.find(one) + len(one) for one in stops if one in free.text]
    (stopped,) = model.sample(stop=stop, **options)
    assert stopped.ended == ("stop" if ends else "length")
    whole = free.text[: min(ends)] if ends else free.text
    assert whole.startswith(stopped.text) and (not ends or whole[len(stopped.text) :] in stops)
    assert len(stopped.ids) == len(stopped.log_probabilities) == len(stopped.text)
    parts = list(model.stream(stop=stop, **options))
    assert all(parts) and "".join(parts) == stopped.text
    monkeypatch.setattr("charrnn.generation.decode._STREAM_BLOCK", 1)
    monkeypatch.setattr("charrnn.generation.decode.MOST_BLOCKS", 1)
    assert "".join(model.stream(stop=stop, **options)) == stopped.text


@pytest.mark.parametrize("length", [0, 7, 60])
@pytest.mark.parametrize("pattern", ["(ab|cd|e)*\\.?", "\\w{0,5}( \\w+)*"])
def test_every_text_of_a_batch_matches_its_pattern(model: Model, pattern: str, length: int) -> None:
    options: dict[str, Any] = {"regex": pattern, "length": length, "temperature": 1.5, "top_k": 4, "no_repeat": 4}
    for sample in model.sample(n=60, seed=3, **options):
        assert re.fullmatch(pattern, sample.text), sample.text


def test_a_pattern_holds_the_prompt_and_the_lengths(model: Model) -> None:
    for sample in model.sample("ab", 40, regex="ab(c|d0)+", min_length=5, length=9, seed=0):
        assert re.fullmatch("ab(c|d0)+", "ab" + sample.text) and 5 <= len(sample.text) <= 9
    with pytest.raises(ConfigError, match="begins with the prompt"):
        model.sample("b", regex="a+")
    with pytest.raises(ConfigError, match="no text of --length 3 or less"):
        model.sample(regex="a{4,}", length=3)
    with pytest.raises(ConfigError, match="no text of --min-length 9 or more"):
        model.sample(regex="a{4,8}", min_length=9)
    with pytest.raises(ConfigError, match="no text of characters that the model knows and may draw"):
        model.sample(regex="a+b", forbid="b")
    with pytest.raises(ConfigError, match="not a regular expression"):
        model.sample(regex="[a")


def test_allow_and_forbid(model: Model) -> None:
    options: dict[str, Any] = {"n": 20, "length": 40, "seed": 2}
    assert set("".join(sample.text for sample in model.sample(allow="abc☃", forbid="b", **options))) == {"a", "c"}
    assert not set("".join(sample.text for sample in model.sample(forbid="a\n", **options))) & set("a\n")
    with pytest.raises(ConfigError, match="leave no character"):
        model.sample(allow="ab", forbid="ba")


def test_lengths(model: Model) -> None:
    assert min(len(sample.text) for sample in model.sample(n=50, length=40, min_length=9, seed=1)) >= 9
    assert {len(sample.text) for sample in model.sample(n=5, length=33, ignore_eos=True, seed=1)} == {33}
    (nothing,) = model.sample("ab", length=0)
    assert (nothing.text, nothing.ended, nothing.log_probability) == ("", "length", 0.0)
    assert list(model.stream("ab", length=0)) == [] and model.sample(n=0) == []


@pytest.mark.as_drawn
def test_log_probabilities_add_up_to_the_score(model: Model) -> None:
    for sample in model.sample(n=3, seed=8, temperature=1.3, top_k=6, length=50, ignore_eos=True):
        assert sum(sample.log_probabilities) == pytest.approx(sample.log_probability, abs=1e-4)
        assert -sample.log_probability == pytest.approx(model.score(sample.text).nats, rel=1e-5)
        assert sample.ids == tuple(model.vocabulary.encode(sample.text).tolist())


@pytest.mark.as_drawn
@pytest.mark.parametrize(("precision", "hidden_size"), [("float32", 8), ("bfloat16", 272)])
def test_every_way_of_reading_gives_the_probabilities_of_drawing(
    precision: str, hidden_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charrnn.sampling.resolve_precision", lambda _: "bfloat16")
    model = model_of(hidden_size)
    assert model.sampler.precision == precision
    (drawn,) = model.sample("ab cd.\n", seed=3, temperature=1.5, length=100, ignore_eos=True)
    whole = model.score(drawn.prompt + drawn.text).nats - model.score(drawn.prompt).nats
    assert -drawn.log_probability == pytest.approx(whole, rel=1e-6)
    likely = model.reader().follow(drawn.prompt + drawn.text[:-1]).characters()
    (share,) = [guess.probability for guess in likely if guess.text == drawn.text[-1]]
    assert math.log(share) == pytest.approx(drawn.log_probabilities[-1], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-9}, {"temperature": 1e9}, {"top_k": 10_000}, {"top_p": 1e-9}, {"min_p": 1.0}],
    ids=repr,
)
def test_options_at_their_edges_draw_text(model: Model, options: dict[str, Any]) -> None:
    (sample,) = model.sample(length=30, ignore_eos=True, seed=0, **options)
    assert len(sample.text) == 30 and math.isfinite(sample.log_probability)
    greedy = model.sample(length=30, ignore_eos=True, temperature=0)[0].text
    few = {"temperature": 1e-9, "top_p": 1e-9, "min_p": 1.0}
    assert (sample.text == greedy) == (options.items() <= few.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "--temp must be at least 0"), ({"temperature": math.nan}, "finite"),
        ({"colour": 1}, "no such option: colour"), ({"n": -1}, "--n"), ({"stop": ""}, "--stop"),
        ({"top_p": 0}, "--top-p"), ({"allow": ""}, "--allow"), ({"no_repeat": -1}, "--no-repeat"),
        ({"min_length": 9, "length": 8}, "--min-length"), ({"regex": "a", "ignore_eos": True}, "--ignore-eos"),
        ({"no_repeat": 2, "length": 2**21}, "--length"), ({"regex": "a", "stop": "b"}, "--stop"),
        ({"repeat_penalty": 0}, "--repeat-penalty"), ({"repeat_window": 9}, "--repeat-window says where"),
    ],
    ids=repr,
)  # fmt: skip
def test_options_out_of_bounds_are_refused(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.sample(**options)


def test_a_beam_finds_likely_texts(model: Model) -> None:
    def mean(sample: Sample) -> float:
        return sample.log_probability / (len(sample.text) + (sample.ended == "eos"))

    found = model.beam("ab", width=8, n=3, length=20)
    assert [mean(sample) for sample in found] == sorted(map(mean, found), reverse=True)
    for sample in found:  # each beam goes on from the state of the one that it came from
        nats = model.score("ab" + sample.text, end=sample.ended == "eos").nats - model.score("ab").nats
        assert -sample.log_probability == pytest.approx(nats, rel=1e-4)
    assert mean(found[0]) > mean(model.sample("ab", temperature=1, length=20, seed=0)[0])
    greedy = model.sample("ab", temperature=0, length=20, ignore_eos=True)[0]
    assert model.beam("ab", width=1, length=20, ignore_eos=True)[0].text == greedy.text
    assert model.beam("ab", width=1, length=0)[0].text == ""
    stop = greedy.text[3:5]
    (stopped,) = model.beam("ab", width=1, length=20, ignore_eos=True, stop=stop)
    assert (stopped.text, stopped.ended) == (greedy.text[: greedy.text.index(stop)], "stop")
    several = model.beam("ab", width=40, length=6, ignore_eos=True, stop=("c", "d", "ab"))
    assert len({sample.text for sample in several}) == len(several) < 40
    assert [mean(sample) for sample in several[:1]] == [max(map(mean, several))]
    for options, message in [
        ({"top_k": 3}, "leave --top-k out"),
        ({"n": 9}, "at most 8"),
    ]:
        with pytest.raises(ConfigError, match=message):
            model.beam("ab", 8, **options)


def test_filters_in_the_documented_order() -> None:
    vocabulary = Vocabulary("abc")
    config = SampleConfig(
        temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, ignore_eos=True, repeat_penalty=1.2, no_repeat=3, forbid="b"
    )
    b = int(vocabulary.encode("b")[0])
    assert filters_for(config, vocabulary) == (
        Forbid((EOS, UNK, b)), NoRepeat(3, 1000, 5), RepeatPenalty(1.2, 64, 5), Temperature(0.5), TopK(3), TopP(0.9),
        MinP(0.1),
    )  # fmt: skip
    with_ends = filters_for(SampleConfig(min_length=2, stop=("ab", "☃"), temperature=0), vocabulary)
    assert [type(one) for one in with_ends] == [Forbid, MinLength, Stop, Greedy]
    assert [type(one) for one in filters_for(SampleConfig(regex="a"), vocabulary)] == [Forbid, Along, Temperature]


def test_filters_that_do_nothing_are_left_out() -> None:
    vocabulary = Vocabulary("abc")
    assert filters_for(SampleConfig(temperature=1.0, allow_unk=True, top_k=5), vocabulary) == ()
    assert filters_for(SampleConfig(temperature=1.0), vocabulary) == (Forbid((UNK,)),)
    greedy = filters_for(SampleConfig(temperature=0, top_k=5, top_p=0.5, min_p=0.5), vocabulary)
    assert greedy == (Forbid((UNK,)), Greedy())


def test_small_networks_are_drawn_from_in_float32_and_others_as_is_fast_here() -> None:
    assert decode_precision(ModelConfig(hidden_size=127)) == "float32"
    assert decode_precision(ModelConfig(hidden_size=128)) == resolve_precision("auto")
