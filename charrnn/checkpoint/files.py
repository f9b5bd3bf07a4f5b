"""All writing to disk goes through here: durable before it is reported, and whole or not at all.

Only these functions call the system's, so a test that makes the n-th of its calls fail, or ends the
process at it, has tried every way in which a disk or a power cut can interfere.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from charrnn.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turn what the system refuses inside the block into a StorageError about `path`, `size` bytes large."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "what was saved before is untouched"
        if error.errno in _FULL:
            needs = f"it needs {size:,} bytes{_free(path)}; " if size else ""
            advice = f"{needs}make room and give the same command again, {advice}"
        raise StorageError(f"{path}: cannot be written ({reason}); {advice}") from error


def write(path: Path, content: bytes) -> None:
    """Write a file and make its content durable; its name is only once its folder is synchronised."""
    _write(path, content, os.O_TRUNC)


def append(path: Path, content: bytes) -> None:
    """Add to a file. It outlives this process; `sync` makes it outlive a power cut."""
    _write(path, content, os.O_APPEND, durable=False)


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content: a reader, or whoever looks after a crash, finds the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path, len(content)):
        try:
            write(partial, content)
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Give a folder its new name, durably; fails where something not empty has that name."""
    os.rename(old, new)
    sync(new.parent)


def make_folder(path: Path) -> None:
    """Make a folder if it is not there; the one it is in must be."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)


def make_folders(path: Path) -> None:
    """Make a folder and those it is in, durably."""
    if not path.exists():
        make_folders(path.parent)
        make_folder(path)
        sync(path.parent)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    if not folder.exists():
        return
    for entry in sorted(folder.iterdir()):
        remove(entry) if entry.is_dir() and not entry.is_symlink() else os.unlink(entry)
    os.rmdir(folder)


def _write(path: Path, content: bytes, flag: int, durable: bool = True) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o666)
    try:
        left = memoryview(content)
        while len(left):
            left = left[os.write(descriptor, left) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        return f" and {shutil.disk_usage(there).free:,} are free"
    return ""
