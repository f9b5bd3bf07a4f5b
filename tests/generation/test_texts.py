"""Texts over several devices."""

import jax
import numpy as np
import pytest

from charrnn.config import ModelConfig
from charrnn.generation.filters import Forbid
from charrnn.generation.prepared import Plan, arranged, lanes_for, prepare
from charrnn.generation.texts import Piece, pieces, whole
from charrnn.nn.layout import COLUMNS
from charrnn.nn.network import create


@pytest.mark.as_drawn
def test_in_bfloat16_too_a_text_is_the_same_on_any_device() -> None:
    network = create(ModelConfig(cell="gru", num_layers=2, hidden_size=16, embedding_size=4), 9, 0)
    random = np.random.default_rng(0)
    network = jax.tree.map(lambda part: part + random.normal(0, 0.5, part.shape).astype(np.float32), network)
    prepared = prepare(network, "bfloat16")

    def drawn(texts: int, first: int = 0, plan: Plan | None = None) -> list[Piece]:
        options = {"seed": 3, "length": 60, "precision": "bfloat16", "plan": plan}
        return list(whole(pieces(prepared, np.array([3]), (Forbid((1,)),), texts=texts, first=first, **options), first))  # type: ignore[arg-type]

    assert [lanes_for(texts, prepared, "bfloat16") for texts in (63, 70)] == [1, 2]
    ready = arranged(prepared, 32, "bfloat16")
    together = drawn(99, plan=Plan(ready, 32, 2))  # many begin in a row, or rather a column, that another text had
    assert ready.axis == COLUMNS
    assert [piece.number for piece in together] == list(range(99)) and len({len(piece.ids) for piece in together}) > 9
    for alone in (*drawn(3), *drawn(2, first=70), *drawn(1, first=97), *drawn(1, first=98)):
        np.testing.assert_array_equal(alone.ids, together[alone.number].ids)
        np.testing.assert_array_equal(alone.log_probabilities, together[alone.number].log_probabilities)
