"""Patterns and strings as automata over a vocabulary's ids: tables of the state after each id."""

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from charrnn.config import TOO_DEEP
from charrnn.errors import ConfigError
from charrnn.text.vocabulary import FIRST_CHARACTER, Vocabulary

_LARGEST_TABLE = 1 << 26
_PATIENCE = 10.0
"""Seconds that a pattern's automaton may take to make: some have as many states as there are subsets of others'."""

_NOWHERE = "\U0010ffff"
"""A character that no text has: what stands in a class that is empty."""

_ESCAPE = r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|0[0-7]{0,2}|[1-3][0-7]{2}|.)"
_REPEAT = r"\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\}"
_TOKEN = re.compile(rf"{_ESCAPE}|{_REPEAT}|\(\?(?:<[=!]|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_IN_CLASS = re.compile(rf"\\[0-7]{{1,3}}|{_ESCAPE}|.", re.DOTALL)
_LOOKING = ("(?=", "(?!", "(?<=", "(?<!", "(?#", "(?>")


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic automaton.

    following: `[S, V]` int32, the state after each id; one that leads nowhere leads to the last state,
    which nothing leaves. accepting: `[S]` bool. start: the state before the first id.
    """

    following: np.ndarray
    accepting: np.ndarray
    start: int = 0

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct states that follow each, one state's after another's, and where each state's begin."""
        after = np.sort(self.following, 1)
        distinct = np.diff(after, axis=1, prepend=-1) > 0
        return after[distinct], np.cumsum(distinct.sum(1)) - distinct.sum(1)

    def one_further(self, distances: np.ndarray, never: int) -> np.ndarray:
        """How far each state is where a character must come before one of these distances `[S]`."""
        states, begins = self._edges
        return np.minimum(np.minimum.reduceat(distances[states], begins) + 1, never).astype(np.int32)

    def distances(self, never: int) -> np.ndarray:
        """How many characters each state is from an accepting one, `[S]` int32; `never` where none is reached."""
        distances = np.where(self.accepting, 0, never).astype(np.int32)
        while True:
            nearer = np.minimum(distances, self.one_further(distances, never))
            if (nearer == distances).all():
                return distances
            distances = nearer


def strings(wanted: Sequence[np.ndarray], vocabulary_size: int) -> Automaton:
    """The automaton that accepts where one of some id strings is complete (Aho & Corasick 1975)."""
    children: list[dict[int, int]] = [{}]
    accepting = [False]
    for string in wanted:
        state = 0
        for id in string.tolist():
            if id not in children[state]:
                children[state][id] = len(children)
                children.append({})
                accepting.append(False)
            state = children[state][id]
        accepting[state] = True
    following = np.zeros((len(children), vocabulary_size), np.int32)
    queue, fallback = [0], [0] * len(children)
    for state in queue:
        if state:
            following[state] = following[fallback[state]]
            accepting[state] = accepting[state] or accepting[fallback[state]]
        for id, child in children[state].items():
            fallback[child] = int(following[state, id]) if state else 0
            following[state, id] = child
            queue.append(child)
    return Automaton(following, np.array(accepting))


def pattern(regex: str, vocabulary: Vocabulary, permitted: np.ndarray, prompt: str = "") -> Automaton:
    r"""The automaton of the texts that go on from `prompt` and as a whole match a regular expression.

    `permitted [V]` bool are the ids that may be drawn. The syntax is Python's; classes such as `\w` hold
    the vocabulary's characters that Python says they do. Raises ConfigError for what no automaton can
    do (back-references, look-around, `\b`), for a pattern that is wrong, and where no text can match.
    """
    machine = _compiled(regex, vocabulary)
    state = _after(machine, prompt)
    if state is None:
        raise ConfigError(f"--regex: no text that begins with the prompt matches {regex!r}")
    # The pattern's alphabet groups characters; it has no group for those of a pattern that is empty.
    groups = len(machine.alphabet.by_transition)
    found = [machine.alphabet[character] for character in vocabulary.characters]
    symbols = np.array([groups] * FIRST_CHARACTER + [groups if symbol is None else symbol for symbol in found])
    names = {name: number for number, name in enumerate(sorted(machine.states))}
    dead = len(names)
    if (dead + 1) * vocabulary.size > _LARGEST_TABLE:
        raise ConfigError(f"--regex: {regex!r} needs {dead:,} states, too many for {vocabulary.size:,} characters")
    following = np.full((dead + 1, vocabulary.size), dead, np.int32)
    for name, edges in machine.map.items():
        after = np.full(groups + 1, dead, np.int32)
        after[list(edges)] = [names[target] for target in edges.values()]
        following[names[name]] = after[symbols]
    following[:, ~permitted] = dead
    accepting = np.array([name in machine.finals for name in sorted(machine.states)] + [False])
    return Automaton(following, accepting, names[state])


def _after(machine, prompt: str):  # type: ignore[no-untyped-def] # interegular has no types
    """The state after a prompt, None where it leads nowhere."""
    state = machine.initial
    for character in prompt:
        state = machine.map.get(state, {}).get(machine.alphabet[character])
        if state is None:
            return None
    return state if state in machine.states else None


@lru_cache(maxsize=1)  # for each temperature, and for each line that is completed, it is the same
def _compiled(regex: str, vocabulary: Vocabulary):  # type: ignore[no-untyped-def]
    """The finite automaton that interegular makes of a pattern."""
    import interegular

    try:
        parsed = interegular.parse_pattern("".join(_spelled_out(regex, vocabulary)))
        return _in_time(parsed.to_fsm, _PATIENCE)
    except (interegular.Unsupported, interegular.InvalidSyntax) as error:
        why = str(error) or "its syntax"
        raise ConfigError(f"--regex: {regex!r} cannot be drawn along ({why}); plain patterns can") from error
    except RecursionError:
        raise ConfigError(TOO_DEEP) from None
    except TimeoutError:
        raise ConfigError(
            f"--regex: {regex!r} makes too large an automaton (it was not done in {_PATIENCE:g} s); "
            "smaller repeats, or fewer of them, make it smaller"
        ) from None


def _in_time(make: Callable[[], Any], seconds: float) -> Any:
    """What `make`, which is Python and nothing else, gives. Raises TimeoutError, and ends it, where it takes longer."""
    made: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="pattern", daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:  # an interrupt ends it too
        if thread.is_alive():
            number = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(TimeoutError))
    if failed:
        raise failed[0]
    if not made:
        raise TimeoutError
    return made[0]


def _spelled_out(regex: str, vocabulary: Vocabulary) -> Iterator[str]:
    r"""The pattern's tokens without what interegular lacks: anchors at the ends, `\u`, classes, a plain `{`."""
    tokens, depth = _TOKEN.findall(regex), 0
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        possessive = token == "+" and (before in ("*", "+", "?") or (len(before) > 1 and before[0] == "{"))
        if token.startswith(_LOOKING) or possessive or re.fullmatch(r"\\[1-9]", token):
            what = before + token if possessive else token
            raise ConfigError(f"--regex: {regex!r} cannot be drawn along ({what} is not supported); plain patterns can")
        depth += (token[0] == "(") - (token == ")")
        begins, ends = (depth == 0 and beside in ("", "|") for beside in (before, after))
        if (token in ("^", "\\A") and begins) or (token in ("$", "\\Z") and ends):
            continue
        if token[0] == "[" and len(token) > 1:
            yield _class_spelled_out(token, vocabulary)
        elif (members := _members(token, vocabulary)) is not None:
            yield f"[{members}]"
        elif token in ("{", "}"):
            yield "\\" + token
        else:
            yield token


def _class_spelled_out(token: str, vocabulary: Vocabulary) -> str:
    opening = "[^" if token.startswith("[^") else "["
    inside = [_members(part, vocabulary) or part for part in _IN_CLASS.findall(token[len(opening) : -1])]
    first = "\\" if inside[:1] == ["]"] else ""
    return opening + first + "".join(inside) + "]"


def _members(token: str, vocabulary: Vocabulary) -> str | None:
    r"""What `\w`, `\u00e9` or `\351` stands for, as it may stand in a class; None for any other token."""
    if token[0] != "\\" or token[1] not in "wWdDsSuUx01234567":
        return None
    if token[1] in "uUx":
        return _literal(chr(int(token[2:], 16)))
    if token[1] in "01234567":
        return _literal(chr(int(token[1:], 8)))
    return "".join(_literal(character) for character in vocabulary.characters if re.match(token, character)) or _NOWHERE


def _literal(character: str) -> str:
    """A character as it may stand in a class."""
    return "\\" + character if character in "\\]^-[" else character
