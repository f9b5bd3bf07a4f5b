"""The user's cache folder: prepared texts, compiled programs, the machine's speed. It may be removed at any time."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

_DAY = 24 * 60 * 60


def default_cache_folder() -> Path:
    """The user's cache folder: `$CHARRNN_CACHE`, else `charrnn` in `$XDG_CACHE_HOME` or `~/.cache`.

    Without a home, a folder below the system's temporary one.
    """
    if chosen := os.environ.get("CHARRNN_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "charrnn"
    try:
        return Path.home() / ".cache" / "charrnn"
    except RuntimeError:
        return _temporary_cache_folder()


def usable_cache_folder() -> Path:
    """The default cache folder if it can be written, else one below the system's temporary folder."""
    folder = default_cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return _temporary_cache_folder()


def _temporary_cache_folder() -> Path:
    """A folder that no one else may have filled: what is compiled is kept there too, and is run."""
    folder = Path(tempfile.gettempdir()) / f"charrnn-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    there = folder.lstat()
    ours = stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o022
    return folder if ours else Path(tempfile.mkdtemp(prefix="charrnn-"))


def remove_left_over(cache: Path) -> None:
    """Remove what preparations that were killed have left, when nothing has been written to it for a day."""
    for folder in cache.glob("partial-*"):
        with contextlib.suppress(OSError):
            last = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if last < time.time() - _DAY:
                shutil.rmtree(folder, ignore_errors=True)
