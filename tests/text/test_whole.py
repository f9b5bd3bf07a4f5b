"""A text read from end to end: its positions, its lines, its characters, by document style."""

from pathlib import Path

import numpy as np
import pytest

import charrnn.text.whole as whole_module
from charrnn.text.corpus import prepare
from charrnn.text.whole import WholeText

TEXTS = {
    "two lines": ("file", False, "ab\ncd", ["ab\n", "cd"]),
    "a last line break": ("file", False, "ab\ncd\n", ["ab\n", "cd\n"]),
    "ended by an EOS": ("file", True, "ab\ncd\n", ["ab\n", "cd\n¶"]),
    "blank lines": ("file", False, "\n\na", ["\n", "\n", "a"]),
    "a document a line": ("line", True, "ab\r\n\ncd\n", ["ab¶", "cd¶"]),
    "paragraphs": ("paragraph", True, "ab\ncd\n\n\nef", ["ab\n", "cd¶", "ef¶"]),
    "a separator": ("--", True, "a--b\nc", ["a¶", "b\n", "c¶"]),
    "any script": ("file", True, "日本\n🦊é", ["日本\n", "🦊é¶"]),
}


@pytest.fixture(params=TEXTS, ids=str)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[WholeText, str, list[str]]:
    style, ended, content, lines = TEXTS[request.param]
    (tmp_path / "text").write_bytes(content.encode())
    corpus = prepare([tmp_path / "text"], documents=style, cache=tmp_path / "cache")
    return WholeText.of(corpus, ended), content, lines


@pytest.mark.parametrize("block", [1 << 18, 1, 2, 3])
def test_lines_are_closed_wherever_the_blocks_end(
    case: tuple[WholeText, str, list[str]], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, content, lines = case
    monkeypatch.setattr(whole_module, "_BLOCK", block)
    found, line, position = [], "", 0
    for part in whole.blocks():
        assert part.first == position
        position += len(part.ends)
        characters = iter(whole.text_at(part.characters[~part.ends]))
        for ends, closes in zip(part.ends, part.closes, strict=True):
            line += "¶" if ends else next(characters)
            if closes:
                found.append(line)
                line = ""
    assert (found, line) == (lines, "")
    assert position == whole.positions
    assert whole.utf8_bytes() == len(content.encode())
    np.testing.assert_array_equal(whole.newlines(), [at for at, c in enumerate(content) if c == "\n"])
