"""Characters and their ids: 0 is EOS, 1 is UNK, then the characters in code point order.

A fine-tuned run's vocabulary is that of the run it started from, then the new text's other characters.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from charrnn.errors import CheckpointError

EOS = 0
UNK = 1
FIRST_CHARACTER = 2
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CODE_POINTS = 0x110000


def code_points(text: str) -> np.ndarray:
    """The Unicode code points of a text, `[len(text)]` uint32; lone surrogates are kept."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@dataclass(frozen=True)
class Vocabulary:
    """The characters a model knows. `characters[k]` has the id `k + 2`."""

    characters: str

    @classmethod
    def from_counts(
        cls, alphabet: np.ndarray, counts: np.ndarray, min_count: int = 1, max_vocab: int | None = None
    ) -> "Vocabulary":
        """Choose the characters to know.

        `alphabet` holds code points and `counts` how often each occurs. Those seen fewer than
        `min_count` times are left out, then all but the `max_vocab` most frequent (ties go to the
        smaller code point).
        """
        kept = np.flatnonzero(counts >= max(min_count, 1))
        by_frequency = kept[np.lexsort((alphabet[kept], -counts[kept]))][:max_vocab]
        chosen = np.sort(alphabet[by_frequency])
        return cls(chosen.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"))

    def with_more(
        self, alphabet: np.ndarray, counts: np.ndarray, min_count: int = 1, max_vocab: int | None = None
    ) -> "Vocabulary":
        """This vocabulary, every id the same, and after it those of `alphabet` that `from_counts` would choose.

        `min_count` is for the new characters; `max_vocab` counts the known ones too, which all stay.
        """
        new = ~np.isin(alphabet, code_points(self.characters))
        room = None if max_vocab is None else max(max_vocab - len(self.characters), 0)
        more = Vocabulary.from_counts(alphabet[new], counts[new], min_count, room)
        return Vocabulary(self.characters + more.characters)

    @property
    def size(self) -> int:
        """Number of ids, EOS and UNK included (the axis `V`)."""
        return len(self.characters) + FIRST_CHARACTER

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        codes = code_points(self.characters)
        table = np.full(int(codes.max(initial=0)) + 2, UNK, np.int32)
        table[codes] = np.arange(FIRST_CHARACTER, self.size)
        return table

    @cached_property
    def _code_point_of_id(self) -> np.ndarray:
        return np.concatenate([code_points("\0" + REPLACEMENT), code_points(self.characters)])

    def ids_of_code_points(self, codes: np.ndarray) -> np.ndarray:
        """Map code points of any shape to ids (int32); what is not known becomes UNK."""
        table = self._id_of_code_point
        return table[np.minimum(codes, len(table) - 1)]

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, `[len(text)]` int32; characters that are not known become UNK."""
        return self.ids_of_code_points(code_points(text))

    def decode(self, ids: np.ndarray) -> str:
        """The text of `ids`; EOS has no text, UNK is U+FFFD."""
        ids = np.asarray(ids, np.int64)
        codes = self._code_point_of_id[ids[ids != EOS]]
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def unknown(self, text: str) -> list[str]:
        """The distinct characters of `text` that are not known, in order of appearance."""
        known = set(self.characters)
        return [character for character in dict.fromkeys(text) if character not in known]

    def to_json(self) -> str:
        """This vocabulary as JSON: `{"characters": [...]}`, one string a character, in id order."""
        return json.dumps({"characters": list(self.characters)})

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Read what `to_json` wrote. Raises CheckpointError when it is something else."""
        if text.count("[") > 2 or text.count("{") > 2 or text.count(",") > _CODE_POINTS:
            raise CheckpointError("not a vocabulary: too many lists or entries")  # before they take memory
        try:
            characters = json.loads(text)["characters"]
            joined = "".join(characters)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"not a vocabulary: {error}") from error
        if (
            not isinstance(characters, list)
            or any(len(character) != 1 for character in characters)
            or len(set(joined)) != len(joined)
        ):
            raise CheckpointError("not a vocabulary: its characters are not single and distinct")
        return cls(joined)


NO_CHARACTERS = Vocabulary("")
