"""The decode loop: what a prompt leaves, what is drawn how often, how texts end, what they do not depend on."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from charrnn.config import ModelConfig
from charrnn.generation import decode
from charrnn.generation.constraints import Along, MinLength, RepeatPenalty
from charrnn.generation.decode import block_for, draw, free_rows, queue_of, start
from charrnn.generation.filters import Filter, Forbid, Greedy, MinP, Temperature, TopK, TopP
from charrnn.generation.prepared import Plan, Prepared, arranged, lanes_for, prepare
from charrnn.generation.repeats import NoRepeat
from charrnn.generation.score import score
from charrnn.generation.texts import Piece, pieces, whole
from charrnn.nn.network import Network, create
from charrnn.text import automaton
from charrnn.text.vocabulary import EOS, Vocabulary

V = 6
NOTHING = np.zeros(0, np.int32)


def network_of(cell: str = "lstm", hidden_size: int = 8, layers: int = 2, seed: int = 3) -> Network:
    config = ModelConfig(cell=cell, num_layers=layers, hidden_size=hidden_size, embedding_size=4)  # type: ignore[arg-type]
    random = np.random.default_rng(seed)  # biases too: zero ones would start with equal logits
    return jax.tree.map(
        lambda weights: 2 * weights + random.normal(0, 0.5, weights.shape).astype(np.float32),
        create(config, V, seed),
    )


@pytest.fixture(scope="module")
def lstm() -> Prepared:
    return prepare(network_of(), "float32")


def texts_of(
    prepared: Prepared, prompt: np.ndarray = NOTHING, filters: tuple[Filter, ...] = (), first: int = 0, **options: Any
) -> list[Piece]:
    options = {"seed": 5, "texts": 1, "length": 50} | options
    return list(whole(pieces(prepared, prompt, filters, first=first, **options), first))


@jax.jit
def step(network: Network, *arguments: Any) -> Any:
    """One character, compiled once for all tests."""
    return network.step(*arguments, "float32")


def state_by_steps(network: Network, prompt: np.ndarray) -> Any:
    carry, table = network.initial_carry(1), network.first_projections("float32")
    for t in range(len(prompt)):
        before = np.array([prompt[t - 1] if t else V], np.int32)
        _, carry = step(network, table, before, carry)
    return carry


@pytest.mark.as_drawn
@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 600])
def test_a_prompt_leaves_the_state_of_the_loop(lstm: Prepared, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PROMPT_WINDOW", 256)
    prompt = np.random.default_rng(length).integers(2, V, length)
    told: list[tuple[int, int]] = []
    row = start(lstm, decode.read(lstm, prompt, "float32", progress=lambda *done: told.append(done)), ())
    assert told == [(min(end, length), length) for end in range(256, length + 256, 256)]
    expected = state_by_steps(lstm.network, prompt)
    for part, wanted in zip(jax.tree.leaves(row.carry), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(part, wanted, atol=1e-5)
    assert row.previous.tolist() == ([prompt[-1]] if length else [V])


@pytest.mark.as_drawn
@pytest.mark.parametrize("before", [0, 1, 255, 256, 300, 599, 600])
def test_a_prompt_that_was_begun_before_is_only_read_on(
    lstm: Prepared, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_PROMPT_WINDOW", 256)
    prompt = np.random.default_rng(1).integers(2, V, 600)
    whole, begun = decode.read(lstm, prompt, "float32"), decode.read(lstm, prompt[:before], "float32")
    read, read_window = list[int](), decode._read_window
    monkeypatch.setattr(
        decode, "_read_window", lambda p, ids, count, *rest: read.append(count) or read_window(p, ids, count, *rest)
    )
    again = decode.read(lstm, prompt, "float32", begun)
    assert sum(read) == len(prompt) - before
    for part, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(part, wanted)
    other = np.concatenate([prompt[:300], [2], prompt[300:]])
    for part, wanted in zip(
        jax.tree.leaves(decode.read(lstm, other, "float32", whole)),
        jax.tree.leaves(decode.read(lstm, other, "float32")),
        strict=True,
    ):
        np.testing.assert_array_equal(part, wanted)


def test_a_long_prompt_compiles_once(lstm: Prepared) -> None:
    before = decode._read_window._cache_size()
    for length in (1, 100, 5000, 20_000):
        decode.read(lstm, np.full(length, 2, np.uint8), "float32")
    assert decode._read_window._cache_size() <= before + 1


def reference(logits: np.ndarray, filters: tuple[Filter, ...], history: list[int], drawn: int) -> np.ndarray:
    """The exact distribution after some filters, by NumPy in float64."""
    logits = logits.astype(np.float64)
    for one in filters:
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        order = np.argsort(-shares)
        match one:
            case Forbid(ids):
                logits[list(ids)] = -np.inf
            case Greedy():
                logits[order[1:]] = -np.inf
            case Temperature(temperature):
                logits = logits / temperature
            case TopK(k):
                logits[order[k:]] = -np.inf
            case TopP(p):
                logits[order[np.searchsorted(np.cumsum(shares[order]), p) + 1 :]] = -np.inf
            case MinP(p):
                logits[shares < p * shares.max()] = -np.inf
            case MinLength(least):
                logits[EOS] = -np.inf if drawn < least else logits[EOS]
            case RepeatPenalty(penalty, window, _):
                seen = list(set(history[-window:]))
                logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
            case Along():
                text = "".join("abcd"[id - 2] for id in history[len(history) - drawn :])
                for id, longer in enumerate([None, None, *(text + letter for letter in "abcd")]):
                    if longer is None or not any(match.startswith(longer) for match in MATCHES):
                        logits[id] = logits[id] if id == EOS and text in MATCHES else -np.inf
            case NoRepeat(2, _, _):
                logits[[b for a, b in itertools.pairwise(history) if a == history[-1]]] = -np.inf
            case _:
                raise AssertionError(one)
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def check_frequencies(drawn: list[Piece], logits_after: Any, filters: tuple[Filter, ...], prompt: list[int]) -> None:
    """Chi-square of the first two characters; EOS is followed by EOS here."""
    counts = np.zeros((V, V))
    for piece in drawn:
        counts[piece.ids[0], piece.ids[1] if len(piece.ids) > 1 else EOS] += 1
    first = reference(logits_after(prompt), filters, prompt, 0)
    second = [np.eye(V)[EOS]]
    second += [
        reference(logits_after([*prompt, id]), filters, [*prompt, id], 1) if first[id] else second[0]
        for id in range(1, V)
    ]
    expected = (first[:, None] * np.stack(second)).ravel() * len(drawn)
    counts = counts.ravel()
    assert not counts[expected == 0].any()
    often = expected > 5
    observed, wanted = (np.append(part[often], part[~often].sum()) for part in (counts, expected))
    distance = (np.square(observed - wanted) / np.maximum(wanted, 1e-9)).sum()
    assert stats.chi2.sf(distance, max(often.sum() - 1, 1)) > 1e-3


PATTERN = "a|b[ac]|c?d"
MATCHES = {"a", "ba", "bc", "d", "cd"}
ALONG = Along.of(automaton.pattern(PATTERN, Vocabulary("abcd"), np.ones(V, bool)), least=0, length=2)
EACH = [  # every filter alone or beside one that does another thing: each list is a program to compile
    (), (Greedy(),), (Forbid((0, 1)), Temperature(0.6)), (MinLength(2), TopK(3)), (RepeatPenalty(1.8, 2, V), TopP(0.8)),
    (NoRepeat(2, 2, V), MinP(0.3)), (ALONG,),
    (ALONG, RepeatPenalty(1.3, 9, V), Temperature(1.5), TopK(2)),
    (Forbid((1,)), MinLength(1), NoRepeat(2, 2, V), RepeatPenalty(1.3, 9, V), Temperature(0.8), TopK(5), TopP(0.95),
     MinP(0.02)),
]  # fmt: skip


@pytest.mark.parametrize("filters", EACH, ids=lambda filters: " ".join(type(one).__name__ for one in filters))
def test_drawn_frequencies_are_the_exact_ones(chain, filters: tuple[Filter, ...]) -> None:
    logits, prompt = np.random.default_rng(0).normal(0, 1.2, (V + 1, V)), [3, 4, 3]
    prepared = chain(logits)
    plan = Plan(arranged(prepared, 512, "float32"), 512, 1)
    drawn = texts_of(prepared, np.array(prompt), filters, texts=8192, length=2, plan=plan)
    check_frequencies(drawn, lambda text: logits.astype(np.float32)[text[-1]], filters, prompt)


@pytest.mark.parametrize("prompt", [[], [2, 3, 4]], ids=["no prompt", "prompt"])
def test_a_network_draws_the_exact_frequencies(lstm: Prepared, prompt: list[int], monkeypatch) -> None:
    monkeypatch.setattr("charrnn.generation.prepared.lanes_for", lambda texts, prepared, precision: 1)
    filters = (Forbid((1,)), Temperature(0.8), TopP(0.9))

    def logits_after(text: list[int]) -> np.ndarray:
        row = start(lstm, decode.read(lstm, np.array(text, int), "float32"), ())
        return np.asarray(step(lstm.network, lstm.table, row.previous, row.carry)[0])[0]

    drawn = texts_of(lstm, np.array(prompt, int), filters, texts=4096, length=2)
    check_frequencies(drawn, logits_after, filters, prompt)


@pytest.mark.as_drawn
@pytest.mark.parametrize(
    ("cell", "hidden_size", "precision", "length"),
    [
        ("lstm", 8, "float32", 1500),
        ("lstm", 130, "float32", 1200),  # products whose rows depend on how many there are, on some machines
        ("gru", 272, "bfloat16", 400),
        ("mogrifier-lstm", 130, "bfloat16", 200),
    ],
)
def test_the_same_text_alone_and_in_a_batch(cell: str, hidden_size: int, precision: str, length: int) -> None:
    """To the bit, for long texts: with one row's products in another order they would part."""
    prepared = prepare(network_of(cell, hidden_size), precision)
    options = {"length": length, "precision": precision, "filters": (Forbid((EOS, 1)), Temperature(0.9), TopP(0.97))}
    together = texts_of(prepared, np.array([3, 4, 2]), texts=40, **options)
    assert len({piece.ids.tobytes() for piece in together}) == 40
    few = texts_of(prepared, np.array([3, 4, 2]), texts=3, **options)
    np.testing.assert_array_equal(few[2].ids, together[2].ids)
    np.testing.assert_array_equal(few[2].log_probabilities, together[2].log_probabilities)
    for row in (0, 39):
        (alone,) = texts_of(prepared, np.array([3, 4, 2]), first=row, **options)
        np.testing.assert_array_equal(alone.ids, together[row].ids)
        np.testing.assert_array_equal(alone.log_probabilities, together[row].log_probabilities)


@pytest.mark.as_drawn
def test_the_same_text_in_any_chunks(lstm: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"filters": (Forbid((EOS,)),), "length": 150}
    (usual,) = texts_of(lstm, **options)
    for block in (1, 7):
        monkeypatch.setattr(decode, "_STREAM_BLOCK", block)
        (other,) = texts_of(lstm, **options)
        np.testing.assert_array_equal(other.ids, usual.ids)
        np.testing.assert_array_equal(other.log_probabilities, usual.log_probabilities)
    (shorter,) = texts_of(lstm, **options | {"length": 90})
    np.testing.assert_array_equal(shorter.ids, usual.ids[:90])


@pytest.mark.as_drawn
def test_a_row_that_ends_gives_its_place_to_the_next_text(lstm: Prepared) -> None:
    lanes = [lanes_for(texts, lstm, "float32") for texts in (79, 100)]
    assert lanes == [2, 3]  # devices, each with every second text, or every third
    together = texts_of(lstm, texts=79, length=40)
    assert [piece.number for piece in together] == list(range(79))
    assert {piece.ended for piece in together} == {"eos", "length"}
    later = texts_of(lstm, texts=30, first=49, length=40)
    for one, other in zip(later, together[49:], strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)


def test_few_texts_are_ahead_of_the_first(lstm: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.generation.texts._AHEAD", 20)
    oldest, finished = 0, set[int]()
    for piece in pieces(lstm, NOTHING, (), seed=1, texts=60, length=60):
        assert piece.number < oldest + 40
        if piece.ended:
            finished.add(piece.number)
        while oldest in finished:
            oldest += 1
    assert oldest == 60


def test_ends(lstm: Prepared) -> None:
    for piece in texts_of(lstm, texts=60, length=30):
        ends = np.flatnonzero(piece.ids == EOS)
        if piece.ended == "eos":
            assert ends.tolist() == [len(piece.ids) - 1]
        else:
            assert (piece.ended, len(piece.ids), len(ends)) == ("length", 30, 0)
        assert len(piece.log_probabilities) == len(piece.ids) and (piece.log_probabilities < 0).all()


def test_seeds_and_numbers_draw_different_texts(lstm: Prepared) -> None:
    seeds = (0, 1, 2**31, 2**32 - 1)
    drawn = [texts_of(lstm, seed=seed, length=40, filters=(Forbid((EOS,)),))[0].ids.tobytes() for seed in seeds]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("filters", [(Forbid((0, 1)), Greedy()), (Forbid((0, 1)), Temperature(1e-9))], ids=repr)
def test_no_temperature_always_takes_the_likeliest(lstm: Prepared, filters: tuple[Filter, ...]) -> None:
    one, other = texts_of(lstm, filters=filters, texts=2)
    np.testing.assert_array_equal(one.ids, other.ids)
    row, network = start(lstm, decode.read(lstm, NOTHING, "float32"), ()), lstm.network
    previous, carry = row.previous, row.carry
    for drawn in one.ids:
        logits, carry = step(network, lstm.table, previous, carry)
        assert drawn == 2 + int(logits[0, 2:].argmax())
        previous = np.array([drawn])


@pytest.mark.as_drawn
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_log_probabilities_are_the_scores_of_the_drawn(cell: str, precision: str, tolerance: float) -> None:
    network = network_of(cell)
    filters = (Forbid((EOS,)), Temperature(0.5), TopK(3))
    drawn = texts_of(prepare(network, precision), filters=filters, texts=4, length=70, precision=precision)
    ids, log_probabilities = (
        np.stack([getattr(piece, name) for piece in drawn], 1) for name in ("ids", "log_probabilities")
    )
    assert (ids.dtype, log_probabilities.dtype) == (np.int32, np.float32)
    inputs = np.concatenate([np.zeros_like(ids[:1]), ids[:-1]])
    resets = np.zeros(ids.shape, bool)
    resets[0] = True
    (nats,) = score(network, [(inputs, ids, resets)], precision)
    np.testing.assert_allclose(log_probabilities, -nats, atol=tolerance)


def test_lengths(lstm: Prepared) -> None:
    assert texts_of(lstm, texts=0) == []
    assert [(len(piece.ids), piece.ended) for piece in texts_of(lstm, texts=2, length=0)] == [(0, "length")] * 2
    for length in (1, 127, 128, 129, 200):
        (piece,) = texts_of(lstm, filters=(Forbid((EOS,)),), length=length)
        assert len(piece.ids) == length


def test_other_numbers_compile_nothing(lstm: Prepared) -> None:
    texts_of(lstm, filters=(Temperature(0.7), TopP(0.9)))
    before = decode.draw._cache_size()
    for number, length in ((0.5, 5), (0.9, 1000)):
        texts_of(lstm, filters=(Temperature(number), TopP(number)), length=length, seed=length)
    assert decode.draw._cache_size() == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(lstm: Prepared, platform: str, precision: str) -> None:
    filters = (Forbid((1,)), Temperature(0.8), TopK(3), TopP(0.9), MinP(0.01))
    beginning = start(lstm, decode.read(lstm, NOTHING, precision), filters)
    ready = arranged(lstm, 4, precision)
    rows, queue, block = free_rows(ready, beginning, 4), queue_of(0, 0, 9, 20), block_for(4, lstm)
    exported = jax.export.export(draw, platforms=[platform])(
        ready, filters, beginning, rows, queue, np.int32(2), precision=precision, block=block
    )
    assert exported.platforms == (platform,)
    assert exported.out_avals[0].shape == (decode.MOST_BLOCKS, block, 4)
