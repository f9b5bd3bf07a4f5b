"""Drawing: its distribution, its independence of batches and chunks, its ends, its log-probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from charrnn.config import ModelConfig, SampleConfig
from charrnn.generation import decode
from charrnn.generation.decode import draw, start, stream
from charrnn.generation.filters import Filter, Forbid, MinP, Temperature, TopK, TopP, filters_for
from charrnn.generation.score import score
from charrnn.nn.network import Network, create

V = 6
NOTHING = np.zeros(0, np.int32)


def network_of(cell: str = "lstm", vocabulary_size: int = V, layers: int = 2, seed: int = 3) -> Network:
    config = ModelConfig(cell=cell, num_layers=layers, hidden_size=8, embedding_size=4)  # type: ignore[arg-type]
    random = np.random.default_rng(seed)  # biases too: zero ones would start with equal logits
    return jax.tree.map(
        lambda weights: 2 * weights + random.normal(0, 0.5, weights.shape).astype(np.float32),
        create(config, vocabulary_size, seed),
    )


def text_of(network: Network, prompt: np.ndarray = NOTHING, seed: int = 5, **options: Any) -> tuple[np.ndarray, ...]:
    """All that a stream yields, `[C, B]`, with SampleConfig's options among the stream's own."""
    fields = {name: options.pop(name) for name in set(options) & set(SampleConfig.__dataclass_fields__)}
    config = SampleConfig(**fields)
    chunks = list(stream(network, prompt, config, vocabulary_size=V, seed=seed, **options))
    return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))


def state_by_steps(network: Network, prompt: np.ndarray) -> Any:
    carry, table = network.initial_carry(1), network.first_projections("float32")
    step = jax.jit(network.step, static_argnums=4)
    for t in range(len(prompt)):
        before = np.array([prompt[t - 1] if t else 0], np.int32)
        _, carry = step(table, before, np.array([t == 0]), carry, "float32")
    return carry


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 600])
def test_a_prompt_leaves_the_state_of_the_loop(cell: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PROMPT_WINDOW", 256)
    network, prompt = network_of(cell), np.random.default_rng(length).integers(2, V, length)
    rows = start(network, prompt, seed=0, rows=3)
    for part, expected in zip(
        jax.tree.leaves(rows.carry), jax.tree.leaves(state_by_steps(network, prompt)), strict=True
    ):
        assert part.shape == (3, 8)
        np.testing.assert_allclose(part, np.repeat(expected, 3, 0), atol=1e-5)
    assert rows.fresh.tolist() == [length == 0] * 3
    if length:
        assert rows.previous.tolist() == [prompt[-1]] * 3


def test_a_long_prompt_compiles_once() -> None:
    network = network_of(layers=1)
    before = decode._read_window._cache_size()
    for length in (1, 100, 5000, 20_000):
        start(network, np.full(length, 2, np.uint8), seed=0, rows=1)
    assert decode._read_window._cache_size() == before + 1


def reference(logits: np.ndarray, apply: Filter) -> np.ndarray:
    """The exact distribution after a filter, by NumPy in float64."""
    logits = logits.astype(np.float64)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares)
    match apply:
        case Forbid(ids):
            shares[list(ids)] = 0
        case Temperature(temperature):
            shares = shares ** (1 / temperature)
        case TopK(k):
            shares[order[k:]] = 0
        case TopP(p):
            shares[order[np.searchsorted(np.cumsum(shares[order]), p) + 1 :]] = 0
        case MinP(p):
            shares[shares < p * shares.max()] = 0
    return shares / shares.sum()


def pairs(network: Network, prompt: np.ndarray, apply: Filter | None) -> np.ndarray:
    """The exact probability of each two first characters after a prompt, `[V, V]`; EOS is followed by EOS."""

    def shares(prompt: np.ndarray) -> np.ndarray:
        rows = start(network, prompt, seed=0, rows=1)
        table = network.first_projections("float32")
        logits = np.asarray(network.step(table, rows.previous, rows.fresh, rows.carry, "float32")[0])[0]
        return reference(logits, apply or Temperature(1.0))

    following = np.stack([np.eye(V)[0], *(shares(np.append(prompt, first)) for first in range(1, V))])
    return shares(prompt)[:, None] * following


@pytest.mark.parametrize("apply", [None, Forbid((0, 1)), Temperature(0.6), TopK(3), TopP(0.8), MinP(0.3)], ids=repr)
@pytest.mark.parametrize("prompt", [[], [2, 3, 4]], ids=["no prompt", "prompt"])
def test_drawn_frequencies_are_the_exact_ones(prompt: list[int], apply: Filter | None) -> None:
    network, draws = network_of(), 20_000
    given = np.array(prompt, np.int32)
    ids, _, _ = draw(network, start(network, given, seed=1, rows=draws), (apply,) if apply else (), 2, "float32")
    counts = np.bincount(np.asarray(ids[0] * V + ids[1]), minlength=V * V)
    expected = pairs(network, given, apply).ravel() * draws
    assert not counts[expected == 0].any()
    often = expected > 5
    observed, wanted = (
        np.append(counts[often], counts[~often].sum()),
        np.append(expected[often], expected[~often].sum()),
    )
    assert stats.chi2.sf((np.square(observed - wanted) / np.maximum(wanted, 1e-9)).sum(), often.sum()) > 1e-3


def test_the_same_text_alone_in_a_batch_and_in_any_chunks() -> None:
    network, prompt = network_of(), np.array([3, 4, 2])
    options = {"length": 150, "temperature": 0.9, "ignore_eos": True}
    together, _ = text_of(network, prompt, rows=5, **options)
    assert together.shape == (150, 5)
    assert len({tuple(row) for row in together.T}) == 5
    for row in range(5):
        alone, _ = text_of(network, prompt, rows=1, first_row=row, **options)
        np.testing.assert_array_equal(alone[:, 0], together[:, row])
    for chunk in (1, 7, 150, 400):
        chunked, _ = text_of(network, prompt, rows=5, chunk=chunk, **options)
        np.testing.assert_array_equal(chunked, together)
    shorter, _ = text_of(network, prompt, rows=5, **options | {"length": 90})
    np.testing.assert_array_equal(shorter, together[:90])


def test_the_same_text_when_little_noise_is_drawn_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    network, options = network_of(), {"length": 60, "ignore_eos": True, "rows": 3}
    ids, log_probabilities = text_of(network, chunk=60, **options)
    monkeypatch.setattr(decode, "_NOISE_AHEAD", 3 * V * 5)
    fewer_ids, fewer = text_of(network, chunk=62, **options)
    np.testing.assert_array_equal(ids, fewer_ids)
    np.testing.assert_allclose(log_probabilities, fewer, atol=1e-5)


def test_seeds_and_rows_draw_different_texts() -> None:
    network = network_of()
    texts = {text_of(network, seed=seed, length=40, ignore_eos=True)[0].tobytes() for seed in (0, 1, 2**31, 2**32 - 1)}
    assert len(texts) == 4


def test_the_first_row_does_not_change_the_keys() -> None:
    keys = [jax.random.key_data(decode.row_keys(7, first, 6 - first)) for first in (0, 4)]
    np.testing.assert_array_equal(keys[0][4:], keys[1])


def test_eos_ends_a_row_and_the_stream() -> None:
    network = network_of()
    ids, log_probabilities = text_of(network, rows=20, length=10_000, chunk=16)
    assert len(ids) < 10_000
    for row, drawn in enumerate(ids.T):
        end = int(np.argmax(drawn == 0))
        assert drawn[end] == 0
        assert (drawn[:end] > 1).all()
        assert (drawn[end:] == 0).all()
        assert (log_probabilities[: end + 1, row] < 0).all()
        assert (log_probabilities[end + 1 :, row] == 0).all()


def test_unk_and_eos_are_drawn_only_when_allowed() -> None:
    network = network_of()
    assert (text_of(network, rows=50, length=50, ignore_eos=True)[0] > 1).all()
    assert (text_of(network, rows=50, length=50, allow_unk=True)[0] == 1).any()


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
def test_no_temperature_always_takes_the_likeliest(temperature: float) -> None:
    network = network_of()
    ids, _ = text_of(network, length=30, temperature=temperature, ignore_eos=True, rows=2)
    rows, table = start(network, NOTHING, 0, 1), network.first_projections("float32")
    previous, fresh, carry = rows.previous, rows.fresh, rows.carry
    for drawn in ids:
        logits, carry = network.step(table, previous, fresh, carry, "float32")
        best = 2 + int(logits[0, 2:].argmax())
        assert drawn.tolist() == [best, best]
        previous, fresh = jnp.array([best]), jnp.array([False])


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_log_probabilities_are_the_scores_of_the_drawn(cell: str, precision: str, tolerance: float) -> None:
    network = network_of(cell)
    ids, log_probabilities = text_of(
        network, length=70, rows=4, precision=precision, temperature=0.5, top_k=3, ignore_eos=True
    )
    assert (ids.dtype, log_probabilities.dtype) == (np.int32, np.float32)
    inputs = np.concatenate([np.zeros_like(ids[:1]), ids[:-1]])
    resets = np.zeros(ids.shape, bool)
    resets[0] = True
    (nats,) = score(network, [(inputs, ids, resets)], precision)
    np.testing.assert_allclose(log_probabilities, -nats, atol=tolerance)


def test_lengths() -> None:
    network = network_of()
    assert list(stream(network, NOTHING, SampleConfig(length=0), vocabulary_size=V, seed=0)) == []
    assert list(stream(network, NOTHING, SampleConfig(length=5), vocabulary_size=V, seed=0, rows=0)) == []
    for length in (1, 31, 32, 33, 200):
        assert len(text_of(network, length=length, ignore_eos=True)[0]) == length
    assert draw(network, start(network, NOTHING, 0, 2), (), 0, "float32")[0].shape == (0, 2)


def test_a_stream_compiles_at_most_two_shapes() -> None:
    network = network_of(layers=3)
    before = decode._draw._cache_size()
    for length in (5, 40, 129, 200, 1000):
        text_of(network, length=length, ignore_eos=True)
    assert decode._draw._cache_size() <= before + 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(platform: str, precision: str) -> None:
    network = network_of()
    filters = filters_for(SampleConfig(top_k=3, top_p=0.9, min_p=0.01), V)
    rows = start(network, NOTHING, 0, 4)
    exported = jax.export.export(draw, platforms=[platform])(network, rows, filters, 8, precision)
    assert exported.platforms == (platform,)
    assert exported.out_avals[0].shape == (8, 4)
