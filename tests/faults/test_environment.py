"""Surroundings that a program may find itself in: each a clear line, or no matter at all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RHYME = "the caf\u00e9 sat on the mat and the \u6c34 sat on the log.\n"
TRAIN = ("train text.txt --hidden 8 --seq-length 8 --batch-size 2 --steps 40 --eval-every 20 --precision float32"
         " --dropout 0")  # fmt: skip
SAMPLE = "sample --length 200 --ignore-eos --seed 1"

ROWS: list[tuple[str, str, dict[str, str], int, str]] = [
    ("no terminal, TERM=dumb", f"charrnn {TRAIN}", {"TERM": "dumb"}, 0, "Draw text with"),
    ("no home", f"env -u HOME charrnn {SAMPLE}", {"HOME": ""}, 0, ""),
    ("locale C", f"charrnn {SAMPLE}", {"LC_ALL": "C"}, 0, ""),
    ("locale POSIX, kept so", f"charrnn {SAMPLE}",
     {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 0, ""),
    ("locale POSIX, kept so, while it learns", f"charrnn {TRAIN} --run posix",
     {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 0, " \u00b7 "),
    ("compiled programs that were cut short", f"charrnn {SAMPLE} && for f in $CHARRNN_CACHE/compiled/*; do"
     f" truncate -s ${{size:-0}} $f; size=$((100 - ${{size:-0}})); done; charrnn {SAMPLE}",
     {"CHARRNN_CACHE": "cache-that-is-damaged"}, 0, ""),
    ("a cache that is no folder", f"charrnn {TRAIN} --run kept", {"CHARRNN_CACHE": "/dev/full"}, 0, ""),
    ("output to head", f"charrnn {SAMPLE} | head -c 3", {}, 0, ""),
    ("output closed", f"charrnn {SAMPLE} >&-", {}, 0, ""),
    ("output to a full disk", f"charrnn {SAMPLE} > /dev/full", {}, 1, "No space left on device"),
    ("input closed", "charrnn complete <&-", {}, 0, ""),
    ("input that is no text", "printf 'the \\377\\n' | charrnn complete --length 5", {}, 0, "never saw"),
    ("messages to head", f"charrnn {TRAIN} --run heard 2>&1 | head -n 1", {}, 0, ""),
    ("messages closed", f"charrnn {TRAIN} --run closed 2>&-", {}, 0, ""),
    ("a folder that is gone", f"mkdir gone && cd gone && rmdir ../gone && charrnn {TRAIN}", {}, 1, "Error: "),
    ("runs in a folder that is a file", f"charrnn {TRAIN} --checkpoints text.txt/x", {}, 1, "text.txt is no folder"),
]  # fmt: skip


@pytest.mark.faults
def test_surroundings(tmp_path: Path, record: Callable[[str, object, str], None]) -> None:
    (tmp_path / "text.txt").write_text(RHYME * 60, "utf-8")
    (tmp_path / "charrnn").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m charrnn "$@"\n')
    (tmp_path / "charrnn").chmod(0o755)
    settings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                "JAX_NUMPY_DTYPE_PROMOTION": "standard"}  # fmt: skip
    for name, command, environment, code, message in ROWS:
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=settings | environment, capture_output=True)
        said = done.stderr.decode("utf-8", "replace")
        assert done.returncode == code, f"{name}: {done.returncode} {said}"
        assert message in said, f"{name}: {said}"
        for ugly in ("Traceback", "Exception ignored", "Warning:", "\\u"):
            assert ugly not in said, f"{name}: {said}"
        if "locale" in name and "learns" not in name:
            assert len(done.stdout.decode("utf-8")) == 201, name
    record("surroundings: no home, no terminal, closed streams, locale C, ...", len(ROWS), "a clear line or no matter")
