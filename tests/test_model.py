"""The Python API, as a person's own program would use it."""

import math

import pytest

import charrnn
from charrnn.errors import ConfigError, RunNotFoundError
from charrnn.scoring.protocols import score_stateful
from charrnn.scoring.text import open_part

RHYME = "the cat sat on the mat and the dog sat on the log.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("api")
    (folder / "lines.txt").write_text(RHYME * 200, "utf-8")
    import jax

    events = []
    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        trained = charrnn.train(
            folder / "lines.txt", checkpoints=folder / "checkpoints", steps=200, hidden_size=32, seq_length=32,
            batch_size=8, documents="line", dropout=0.0, learning_rate=0.004, on_event=events.append,
        )  # fmt: skip
    assert events
    return trained


def test_train_gives_a_model_that_learnt(model) -> None:
    assert model.sample(temperature=0)[0].text == RHYME.strip()
    assert model.sample(temperature=0)[0].ended == "eos"
    assert model.score(RHYME.strip()).bits_per_character < 0.2
    assert model.score("qqqq").bits_per_character > 3
    assert model.validation["nats"] < 0.2


def test_streamed_text_is_the_sampled_text(model) -> None:
    for stop in (None, "mat", "zzz"):
        options = {"seed": 4, "temperature": 1.5, "length": 100, "stop": stop}
        assert "".join(model.stream("the ", **options)) == model.sample("the ", **options)[0].text
    assert "mat" not in "".join(model.stream("the ", seed=4, stop="mat"))


def test_a_batch_draws_what_each_row_draws_alone(model) -> None:
    batch = model.sample("t", 70, seed=9, temperature=3.0, length=40)
    assert len(batch) == 70 and len({sample.text for sample in batch}) > 20
    for row in (0, 3, 65):
        assert "".join(model.stream("t", row=row, seed=9, temperature=3.0, length=40)) == batch[row].text


def test_log_probability_is_the_score_of_the_text(model) -> None:
    drawn = model.sample(seed=2, temperature=1.3, length=25, ignore_eos=True)[0]
    assert -drawn.log_probability == pytest.approx(model.score(drawn.text).nats, rel=1e-3)


def test_a_text_that_ended_by_itself_is_scored_with_its_end(model) -> None:
    drawn = next(sample for sample in model.sample(n=8, seed=3, temperature=1.2) if sample.ended == "eos")
    assert -drawn.log_probability == pytest.approx(model.score(drawn.text, end=True).nats, rel=1e-3)


def test_the_validation_part_scores_what_validation_said(model) -> None:
    with open_part(model.config, model.vocabulary, "validation") as text:
        score = score_stateful(model.network, text, text.streams, "float32")
    assert model.config.whole_documents is True and text.ends > 0
    assert score.nats_per_character == pytest.approx(model.validation["nats"], rel=0.02)  # that may be bfloat16's
    assert score.bytes == score.characters + score.ends


def test_scores_of_any_length_add_up(model) -> None:
    text = RHYME * 30
    score = model.score(text)
    assert (score.characters, score.unknown) == (len(text), text.count("\n"))  # line ends are not in the vocabulary
    assert score.perplexity == pytest.approx(math.exp(score.nats / len(text)))
    assert model.score("").nats == 0.0


def test_load_finds_what_was_trained(model, tmp_path) -> None:
    with pytest.raises(RunNotFoundError, match="no runs"):
        charrnn.load(checkpoints=tmp_path)


@pytest.mark.parametrize("row", [-1, 2**31 - 2**10])
def test_a_texts_number_has_bounds(model, row: int) -> None:
    with pytest.raises(ConfigError, match="texts have numbers from 0 to 2,147,482,623"):
        model.stream("t", row=row)


@pytest.mark.parametrize("options", [{"temperature": -1}, {"temperature": math.nan}, {"top_p": 0}, {"colour": 1}])
def test_options_out_of_bounds_are_refused(model, options) -> None:
    with pytest.raises(ConfigError):
        model.sample(**options)
