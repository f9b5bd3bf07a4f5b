"""Where a command's result goes: the standard output, or a file."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import click

from charrnn.errors import ConfigError, StorageError


def is_file(stream: TextIO) -> bool:
    """Whether what is written goes into a file on disk."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # a stream of Python's alone
        return False


@contextlib.contextmanager
def output_to(file: Path | None) -> Iterator[Callable[[str], None]]:
    """What writes a text at once, to a file or to the standard output."""
    if file is None:

        def write(text: str) -> None:
            click.echo(text, nl=False)
            sys.stdout.flush()

        yield write
        return
    existed, begun = file.exists(), False
    try:  # what stands in it stays until there is something to write
        opened = file.open("a", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise ConfigError(f"--out {file}: cannot be written ({error.strerror})") from error

    def put(text: str) -> None:
        nonlocal begun
        try:
            if not begun and is_file(opened):
                opened.truncate(0)
            begun = True
            opened.write(text)
            opened.flush()
        except OSError as error:
            raise StorageError(f"--out {file}: cannot be written ({error.strerror})") from error

    try:
        yield put
        if not begun:
            put("")
    finally:
        with contextlib.suppress(OSError):  # what could not be written was told
            opened.close()
            if not (begun or existed):
                file.unlink()
