"""How fast and in how much memory a large corpus is prepared.

    python -m benchmarks.prepare_corpus TEXT [--gigabytes 1]

makes a corpus of that size by repeating TEXT with a number put into every copy, then prepares it as
a process of its own, with an empty cache.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe, run, write_result

_PREPARE = """
import sys
from pathlib import Path
from charrnn.text.corpus import prepare
from charrnn.text.selection import split, vocabulary_of
corpus = prepare([sys.argv[1]], documents=sys.argv[2], cache=Path(sys.argv[3]))
train, validation, _ = split(corpus, 0.1, 0)
vocabulary = vocabulary_of(train)
print(f"{corpus.characters:,} characters, {len(corpus.spans):,} documents, {vocabulary.size} ids")
"""


def make_corpus(text: Path, target: Path, size: int) -> None:
    """Write `size` bytes: the text again and again, each copy beginning with its number."""
    content, written, copy = text.read_bytes(), 0, 0
    with target.open("wb") as file:
        while written < size:
            written += file.write(b"%d\n" % copy + content)
            copy += 1


def main() -> None:
    """Measure each document style and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    arguments = parser.parse_args()
    lines = [describe(), f"{arguments.text.name} repeated to {arguments.gigabytes:g} GB", ""]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "large.txt"
        make_corpus(arguments.text, corpus, int(arguments.gigabytes * 1e9))
        megabytes = corpus.stat().st_size / 1e6
        lines.append(f"{'documents':10} {'seconds':>8} {'MB/s':>6} {'peak MB':>8}  what")
        for style in ("file", "line", "paragraph"):
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                done = run(sys.executable, "-c", _PREPARE, str(corpus), style, cache)
            speed = megabytes / done.seconds
            lines.append(
                f"{style:10} {done.seconds:8.1f} {speed:6.0f} {done.peak_megabytes:8.0f}  {done.output.strip()}"
            )
    write_result("prepare_corpus.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
