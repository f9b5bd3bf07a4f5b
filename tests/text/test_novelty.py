"""What stands in a corpus, against Python's `in`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.text import novelty
from charrnn.text.corpus import Corpus, prepare
from charrnn.text.novelty import hashes, holds, share_of_runs
from charrnn.text.vocabulary import code_points

TEXT = "".join(np.random.default_rng(0).choice(list("abc ж\n"), 5000)) + "the end"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("novelty")
    path = folder / "text.txt"
    path.write_text(TEXT, "utf-8")
    return {style: prepare([path], documents=style, cache=folder) for style in ("file", "line")}


@given(st.text("ab", max_size=60), st.integers(1, 33))
def test_equal_runs_have_equal_hashes_and_others_do_not(text: str, size: int) -> None:
    runs = [text[k : k + size] for k in range(len(text) - size + 1)]
    found = hashes(code_points(text), size).tolist()
    assert len(found) == len(runs)
    assert len(set(found)) == len(set(runs)) == len(set(zip(runs, found, strict=True)))


@pytest.mark.parametrize("block", [1 << 20, 100, 64])
def test_the_share_of_runs(corpora: dict[str, Corpus], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "_BLOCK", block)
    texts = [TEXT[90:130], TEXT[60:85] + "q" + TEXT[200:230], "nothing of it stands in it, nothing", "short", ""]
    runs = [text[k : k + 20] for text in texts for k in range(len(text) - 19)]
    standing = sum(run in TEXT for run in runs)
    assert 0 < standing < len(runs)
    assert share_of_runs(corpora["file"], texts) == (standing, len(runs))


def test_no_runs(corpora: dict[str, Corpus]) -> None:
    assert share_of_runs(corpora["file"], ["short"]) == (0, 0)


@pytest.mark.parametrize("block", [1 << 20, 50])
def test_texts_that_stand_in_it(corpora: dict[str, Corpus], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "_BLOCK", block)
    line = max(TEXT.split("\n"), key=len)
    for text in (TEXT[10:200], TEXT[-9:], line, line[1:], "q", "☃", ""):
        assert holds(corpora["file"], text) == (bool(text) and text in TEXT)
        assert holds(corpora["line"], text) == (bool(text) and text in TEXT.split("\n"))
