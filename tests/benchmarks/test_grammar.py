"""The source whose entropy is known: its figures against every document of a small instance, and against draws."""

import itertools
import math
from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.grammar import Grammar, Symbol, build

SMALL = Grammar(
    {
        ("start",): ((0.25, ("a", ("tail",), "!")), (0.5, ("bc", ("tail",))), (0.25, (("pair",), "."))),
        ("tail",): ((0.125, ("x",)), (0.875, ("yy", ("pair",)))),
        ("pair",): ((0.3, ("u",)), (0.7, ("vv",))),
    },
    ("start",),
)


def everything(grammar: Grammar, symbols: tuple[Symbol, ...]) -> Iterator[tuple[float, str]]:
    """Every text that some symbols become, with its probability, by trying all choices."""
    if not symbols:
        yield 1.0, ""
        return
    first, rest = symbols[0], symbols[1:]
    if isinstance(first, str):
        heads: Iterator[tuple[float, str]] = iter([(1.0, first)])
    else:
        heads = ((p * q, text) for p, parts in grammar.choices[first] for q, text in everything(grammar, parts))
    rests = list(everything(grammar, rest))
    yield from ((p * q, text + more) for p, text in heads for q, more in rests)


CLAUSE = Grammar(build(nouns=2, verbs=1, names=2, depth=1).choices, ("clause", 1))


@pytest.mark.parametrize("grammar", [SMALL, CLAUSE], ids=["small", "clause"])
def test_the_entropy_is_that_of_all_its_documents(grammar: Grammar) -> None:
    documents = list(everything(grammar, (grammar.start,)))
    assert len({text for _, text in documents}) == len(documents) >= 8  # one derivation each
    assert math.fsum(probability for probability, _ in documents) == pytest.approx(1, abs=1e-12)
    assert grammar.entropy() == pytest.approx(-math.fsum(p * math.log2(p) for p, _ in documents), rel=1e-12)
    assert grammar.length() == pytest.approx(math.fsum(p * (len(text) + 1) for p, text in documents), rel=1e-12)
    for probability, text in documents:
        assert grammar.surprise(text) == pytest.approx(-math.log2(probability), rel=1e-9, abs=1e-12)


def test_what_is_drawn_costs_the_entropy_on_average() -> None:
    grammar, random = build(), Random(7)
    texts = [grammar.draw(random) for _ in range(4000)]
    bits = [grammar.surprise(text) for text in texts]
    mean = sum(bits) / len(bits)
    error = math.sqrt(sum((b - mean) ** 2 for b in bits)) / len(bits)
    assert abs(mean - grammar.entropy()) < 4 * error < 0.1 * mean
    assert len(set(texts)) > 3000 and texts[:5] == [grammar.draw(again) for again in [Random(7)] for _ in range(5)]


def test_its_texts_obey_its_rules() -> None:
    grammar, random = build(), Random(3)
    text = "; ".join(grammar.draw(random).rstrip(".") for _ in range(500))
    opened: list[str] = []
    for character in text:
        if character in "([{":
            opened.append({"(": ")", "[": "]", "{": "}"}[character])
        elif character in ")]}":
            assert opened.pop() == character
    assert not opened
    for sentence in text.split("; "):
        if "+" in sentence:
            total, (one, other) = sentence.split("=")[1], sentence.split("=")[0].split("+")
            assert int(one) + int(other) == int(total)
        if " things: " in sentence:
            count, items = sentence.split(" things: ")
            assert int(count) == len(items.split(", "))
        if " says: " in sentence:
            assert sentence.endswith("so says " + sentence.split(" says: ")[0])


def test_other_texts_are_refused() -> None:
    for text in ("", "a", "ax", "ax!!", "bcyy", "w."):
        with pytest.raises(ValueError, match="not of this grammar"):
            SMALL.surprise(text)
    for one, other in itertools.pairwise(["a", "ab", "abc"]):
        with pytest.raises(AssertionError, match="not told apart"):
            Grammar({("start",): ((0.5, (one,)), (0.5, (other,)))}, ("start",))
