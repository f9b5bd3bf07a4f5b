"""The texts that come with the program: they are there, large enough, and found by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from charrnn.text.bundled import BUNDLED, Bundled, corpora_folder, python_sources, resolve_sources
from charrnn.text.corpus import Corpus, prepare


@pytest.mark.parametrize("bundled", BUNDLED, ids=lambda bundled: bundled.name)
def test_bundled_text_is_distinct_documents(
    bundled: Bundled, tmp_path: Path, documents_of: Callable[[Corpus], list[str]]
) -> None:
    files, style = resolve_sources((bundled.name,), "auto")
    assert style == bundled.documents and files == [corpora_folder() / bundled.file]
    corpus = prepare(files, documents=style, cache=tmp_path)
    documents = documents_of(corpus)
    assert len(documents) >= {"fables": 100, "towns": 3000, "quatrains-zh": 400}[bundled.name]
    assert len(set(documents)) == len(documents) and not corpus.carriage_returns
    assert all(document == document.strip() for document in documents)


def test_fables_are_long_enough() -> None:
    assert (corpora_folder() / "fables.txt").stat().st_size >= 120_000


def test_a_file_at_hand_goes_before_a_bundled_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fables").write_text("mine")
    assert resolve_sources(("fables",), "auto") == (["fables"], "auto")
    assert resolve_sources(("towns",), "file")[1] == "file"
    assert resolve_sources(("towns", "fables"), "auto")[1] == "auto"


def test_python_is_its_own_library() -> None:
    files = python_sources()
    assert files == sorted(files) and {"ast.py", "os.py"} <= {file.name for file in files}
    assert not any("site-packages" in file.parts for file in files)
    assert sum(file.stat().st_size for file in files) > 5_000_000
