"""The texts that come with the program, by name, and the one it makes from the running Python."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from charrnn.errors import CorpusError


@dataclass(frozen=True)
class Bundled:
    """A text that comes with the program, and what its documents are."""

    name: str
    file: str
    documents: str
    what: str


BUNDLED = (
    Bundled("fables", "fables.txt", "paragraph", "original English fables"),
    Bundled("towns", "towns.txt", "line", "invented place names"),
    Bundled("quatrains-zh", "quatrains-zh.txt", "line", "original Chinese quatrains"),
)
PYTHON = "python"


def corpora_folder() -> Path:
    """Where the bundled texts lie: in the installed package, or beside it in a source checkout."""
    package = Path(__file__).parent.parent
    installed = package / "corpora"
    return installed if installed.is_dir() else package.parent / "corpora"


def resolve_sources(sources: tuple[str, ...], documents: str) -> tuple[list[Path | str], str]:
    """Replace the names of bundled texts by files, unless a file of that name is at hand.

    Also returns the document style: a single bundled text knows its own where `documents` is `auto`.
    """
    known = {bundled.name: bundled for bundled in BUNDLED}
    paths: list[Path | str] = []
    for source in sources:
        if source in known and not Path(source).exists():
            paths.append(corpora_folder() / known[source].file)
            documents = known[source].documents if documents == "auto" and len(sources) == 1 else documents
        elif source == PYTHON and not Path(source).exists():
            paths.extend(python_sources())
            documents = "file" if documents == "auto" else documents
        else:
            paths.append(source)
    return paths, documents


def python_sources() -> list[Path]:
    """The running Python's own standard library sources that are UTF-8 text, sorted by path."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts and _is_text(path)]
    if not files:
        raise CorpusError(f"{library}: this Python carries no library sources; give a text file instead")
    return files


def _is_text(path: Path) -> bool:
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return bool(content) and b"\0" not in content
