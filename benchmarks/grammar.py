"""A text whose entropy rate is known exactly, and how near the default model comes to it.

python -m benchmarks.grammar [--characters 12000000] [--minutes 10 | --steps N] [--seeds 1]

A seeded stochastic grammar writes one document a line: clauses whose verbs agree with their nouns over
nested asides, three kinds of brackets that must match, a speaker named before and after what was said,
lists as long as the number before them, and sums that are right. Each choice is told from the others by
the text that follows it, so a text has one derivation, and its probability is the product of the choices'.
Hence the entropy of a document, its mean length, and what any held-out text costs at the least are exact.
No model is better than the source: a figure under the source's own would be a wrong figure, and ends the
benchmark. Trials that `results/grammar.jsonl` holds already are not made again; the table is of all that it holds.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.machine import (
    CHARRNN,
    RESULTS,
    describe,
    facts_of,
    is_current,
    keep_trial,
    kept_trials,
    run,
    write_result,
)

TRIALS = RESULTS / "grammar.jsonl"

Symbol = str | tuple
"""A text to write, or the name of a choice with its attributes."""

Rule = tuple[float, tuple[Symbol, ...]]
"""A choice's probability, and what it writes or chooses next."""


@dataclass(frozen=True, eq=False)
class Grammar:
    """A choice for every name. It has no loops: what it names is nearer the end (so depths are bounded)."""

    choices: dict[tuple, tuple[Rule, ...]]
    start: tuple

    def __post_init__(self) -> None:
        for name, rules in self.choices.items():
            assert math.isclose(sum(probability for probability, _ in rules), 1), name
            firsts = [first for rule in rules for first in self._firsts(rule)]
            for one, other in combinations(sorted(firsts), 2):
                assert not other.startswith(one), f"{name}: {one!r} and {other!r} are not told apart"

    def _firsts(self, rule: Rule) -> Iterator[str]:
        """The texts that may be the first that a rule writes."""
        first = rule[1][0]
        if isinstance(first, str):
            yield first
        else:
            for deeper in self.choices[first]:
                yield from self._firsts(deeper)

    @cached_property
    def _ways(self) -> dict[tuple, tuple[tuple[str, Rule], ...]]:
        """For each name, the texts that tell its rules apart."""
        return {
            name: tuple((first, rule) for rule in rules for first in self._firsts(rule))
            for name, rules in self.choices.items()
        }

    def entropy(self) -> float:
        """The entropy of a document in bits."""
        return self._expected(self.start)[0]

    def length(self) -> float:
        """The mean length of a document, its end counted as a character, as a model predicts it too."""
        return self._expected(self.start)[1] + 1

    @cache  # noqa: B019 - lives as long as the program
    def _expected(self, symbol: Symbol) -> tuple[float, float]:
        """The mean bits and characters of what a symbol becomes."""
        if isinstance(symbol, str):
            return 0.0, float(len(symbol))
        bits = characters = 0.0
        for probability, parts in self.choices[symbol]:
            of_parts = [self._expected(part) for part in parts]
            bits += probability * (sum(part[0] for part in of_parts) - math.log2(probability))
            characters += probability * sum(part[1] for part in of_parts)
        return bits, characters

    def draw(self, random: Random) -> str:
        """A document."""
        pieces, pending = [], [self.start]
        while pending:
            symbol = pending.pop()
            if isinstance(symbol, str):
                pieces.append(symbol)
                continue
            rules = self.choices[symbol]
            ((_, parts),) = random.choices(rules, [probability for probability, _ in rules])
            pending.extend(reversed(parts))
        return "".join(pieces)

    def surprise(self, text: str) -> float:
        """-log2 of a document's probability. Raises ValueError when the grammar does not write it."""
        bits, position, pending = 0.0, 0, [self.start]
        while pending:
            symbol = pending.pop()
            if isinstance(symbol, str):
                if not text.startswith(symbol, position):
                    raise ValueError(f"not of this grammar at character {position}: {text!r}")
                position += len(symbol)
                continue
            rule = next((rule for first, rule in self._ways[symbol] if text.startswith(first, position)), None)
            if rule is None:
                raise ValueError(f"not of this grammar at character {position}: {text!r}")
            bits -= math.log2(rule[0])
            pending.extend(reversed(rule[1]))
        if position != len(text):
            raise ValueError(f"not of this grammar at character {position}: {text!r}")
        return bits


NUMBERS = ("one", "many")
BRACKETS = ("()", "[]", "{}")
DETERMINERS = {"one": ("a ", "this ", "every "), "many": ("these ", "most ", "all ")}
ENDINGS = {"noun": {"one": " ", "many": "i "}, "verb": {"one": "t ", "many": "n "}}
DEPTH, LONGEST_LIST, SENTENCES = 3, 6, 3


def weighted(texts: list[tuple[Symbol, ...]]) -> tuple[Rule, ...]:
    """Choices whose probability falls with their rank, as words' do (Zipf)."""
    weights = [1 / (rank + 2) for rank in range(len(texts))]
    return tuple((weight / sum(weights), text) for weight, text in zip(weights, texts, strict=True))


def words(random: Random, count: int) -> list[str]:
    """Words of one or two syllables, none of them the beginning of another."""
    found: list[str] = []
    while len(found) < count:
        syllables = (random.choice("bdfgklmprsvz") + random.choice("aeou") for _ in range(random.choice((1, 2, 2))))
        word = "".join(syllables) + random.choice("lrsmk")
        if not any(word.startswith(other) or other.startswith(word) for other in found):
            found.append(word)
    return found


def build(seed: int = 0, *, nouns: int = 80, verbs: int = 40, names: int = 8, depth: int = DEPTH) -> Grammar:
    """The grammar of the benchmark, or a smaller one."""
    random = Random(seed)
    lexicon = words(random, nouns + verbs + names)
    stems = {"noun": lexicon[:nouns], "verb": lexicon[nouns : nouns + verbs]}
    speakers = [name.capitalize() for name in lexicon[nouns + verbs :]]
    choices: dict[tuple, tuple[Rule, ...]] = {}
    for kind, number in ((kind, number) for kind in stems for number in NUMBERS):
        choices[kind, number] = weighted([(stem + ENDINGS[kind][number],) for stem in stems[kind]])
    choices["item",] = weighted([(stem,) for stem in stems["noun"]])
    for level in range(depth + 1):
        choices |= clauses(level)
    choices |= lists() | sums()
    said = [(name + " says: ", ("clause", min(1, depth)), "so says " + name) for name in speakers]
    choices["said",] = weighted(said)
    kinds = ((0.4, (("clause", depth),)), (0.25, (("said",),)), (0.2, (("list",),)), (0.15, (("sum",),)))
    for left in range(SENTENCES):
        more: tuple[Rule, ...] = ((0.5, (".",)), (0.5, ("; ", ("sentence", left - 1)))) if left else ((1.0, (".",)),)
        choices["rest", left] = more
        choices["sentence", left] = tuple((share, (*parts, ("rest", left))) for share, parts in kinds)
    return Grammar(choices, ("sentence", SENTENCES - 1))


def clauses(level: int) -> dict[tuple, tuple[Rule, ...]]:
    """A clause, and what may stand between its noun and its verb, at most `level` brackets deep."""
    choices: dict[tuple, tuple[Rule, ...]] = {
        ("clause", level): _phrases(lambda number: (("predicate", number, level),)),
        ("object", level): _phrases(lambda _: ()),
    }
    for number in NUMBERS:
        verb = (("verb", number), ("object", level))
        asides = tuple(
            (0.3 * share, (opening + "who ", ("clause", level - 1), closing + " ", *verb))
            for share, (opening, closing) in zip((0.5, 0.3, 0.2), BRACKETS, strict=True)
        )
        # A verb's first letter tells it from a bracket.
        choices["predicate", number, level] = ((0.7, verb), *asides) if level else ((1.0, verb),)
    return choices


def _phrases(follows: Callable[[str], tuple[Symbol, ...]]) -> tuple[Rule, ...]:
    """A determiner and a noun of one number, then what `follows` for that number."""
    pairs = [(number, determiner) for number in NUMBERS for determiner in DETERMINERS[number]]
    return weighted([(determiner, ("noun", number), *follows(number)) for number, determiner in pairs])


def lists() -> dict[tuple, tuple[Rule, ...]]:
    """As many items as the number before them says."""
    counted: list[tuple[Symbol, ...]] = []
    for count in range(1, LONGEST_LIST + 1):
        items = [part for _ in range(count) for part in (", ", ("item",))][1:]
        counted.append((f"{count} things: ", *items))
    return {("list",): weighted(counted)}


def sums() -> dict[tuple, tuple[Rule, ...]]:
    """Two digits and their sum."""
    pairs = [(f"{one}+{other}={one + other}",) for one in range(10) for other in range(10)]
    return {("sum",): tuple((1 / len(pairs), pair) for pair in pairs)}


def write_corpus(grammar: Grammar, path: Path, characters: int, seed: int) -> None:
    """Documents, one a line, until there are so many characters."""
    random = Random(seed)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < characters:
            file.write(grammar.draw(random) + "\n")


def measure(grammar: Grammar, characters: int, budget: tuple[str, str], seed: int) -> dict[str, Any]:
    """Train on a text of the grammar with default options but the budget: what the text kept back costs, in bits.

    least: under the source itself. reached: under the model.
    """
    import charrnn

    with tempfile.TemporaryDirectory() as folder:
        write_corpus(grammar, Path(folder) / "grammar.txt", characters, seed)
        options = (*budget, "--seed", str(seed), "--test-fraction", "0.1", "--quiet")
        run(*CHARRNN, "train", "grammar.txt", *options, cwd=Path(folder))
        shown = facts_of("show", "grammar", folder=folder)
        texts = list(charrnn.load(Path(folder) / "checkpoints" / "grammar").documents("test"))
    test, model = shown["test"], shown["config"]["model"]
    positions = sum(len(text) + 1 for text in texts)
    assert positions == test["characters"]
    least = sum(grammar.surprise(text) for text in texts) / positions
    reached = test["nats"] / math.log(2)
    assert reached >= least, f"{reached} bits are less than the source's own {least}: a figure is wrong"
    return {
        "characters": characters, "budget": " ".join(budget), "seed": seed,
        "network": f"{model['num_layers']}x{model['hidden_size']}", "positions": positions,
        "least": round(least, 5), "reached": round(reached, 5),
    }  # fmt: skip


def table(grammar: Grammar, trials: list[dict[str, Any]]) -> str:
    """All trials, by the text's size."""
    rate = grammar.entropy() / grammar.length()
    lines = [
        describe(),
        f"entropy rate of the source: {rate:.5f} bits per character, {grammar.length():.1f} characters a document",
        "least: what the text kept back costs under the source itself; reached: under the model (bits per character)",
        "",
        f"{'characters':>10}  {'budget':12} {'seed':>4} {'network':>8} {'test':>9} {'least':>8} {'reached':>8} "
        f"{'excess':>7}",
    ]
    for trial in sorted(trials, key=lambda trial: (trial["characters"], trial["budget"], trial["seed"])):
        least, reached = trial["least"], trial["reached"]
        lines.append(
            f"{trial['characters']:10,}  {trial['budget']:12} {trial['seed']:4} {trial['network']:>8} "
            f"{trial['positions']:9,} {least:8.5f} {reached:8.5f} {reached / least - 1:7.2%}"
            f"  {trial.get('note', '')}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    """Make the trials that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=12_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, help="a budget of steps instead: the same on a busy machine")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    grammar = build()
    budget = ("--steps", str(arguments.steps)) if arguments.steps else ("--minutes", f"{arguments.minutes:g}")
    trials = kept_trials(TRIALS)
    done = {(trial["characters"], trial["budget"], trial["seed"]) for trial in filter(is_current, trials)}
    for seed in range(arguments.seeds):
        if (arguments.characters, " ".join(budget), seed) not in done:
            trials.append(measure(grammar, arguments.characters, budget, seed))
            keep_trial(TRIALS, trials[-1])
    write_result("grammar.txt", table(grammar, trials))


if __name__ == "__main__":
    main()
