"""One writer a run: a lock that dies with the process that holds it. Readers do not need it."""

import errno
import fcntl
import json
import os
import socket
import weakref
from pathlib import Path

from charrnn.checkpoint import files
from charrnn.errors import CheckpointError, StorageError

NAME = ".lock"
_NOT_KNOWN_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Lock:
    """The right to write a run folder, from its making until `release` or the end of the process.

    `held` is false where the file system knows no locks. Raises CheckpointError, naming who holds
    it, when another process does.
    """

    def __init__(self, folder: Path):
        path = folder / NAME
        with files.writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = True
        except BlockingIOError:
            holder = _holder(self._descriptor)
            self.release()
            raise CheckpointError(f"{folder}: {holder} is training this run; wait for it or stop it first") from None
        except OSError as error:
            if error.errno not in _NOT_KNOWN_HERE:
                self.release()
                raise
            self.held = False
        with files.writing(path):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)

    def release(self) -> None:
        """Let others write. Does nothing the second time."""
        self._close()

    def check(self, folder: Path) -> None:
        """Raise StorageError when `folder` is no longer the one that was locked, so that another may be writing it."""
        try:
            ours = self._close.alive and os.path.samestat(os.fstat(self._descriptor), os.stat(folder / NAME))
        except (FileNotFoundError, NotADirectoryError):
            ours = False
        if not ours:
            raise StorageError(
                f"{folder}: cannot be written (it was moved, removed or made anew while this training ran); "
                "what was saved is where that folder went"
            )


def _holder(descriptor: int) -> str:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0).decode())
        return f"process {int(facts['process'])} on {str(facts['host'])!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it has the lock and has not yet said who it is
        return "another process"
