"""Writing behind training's back: one thing after the other, on one thread."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")
_MOST_WAITING = 2


class Background(Generic[Result]):
    """Does work in the order in which it is handed in; after something failed, nothing more."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="charrnn-saving")
        self._work: deque[Future[Result]] = deque()
        self._failed: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether something is not done yet."""
        return any(not work.done() for work in self._work)

    def submit(self, work: Callable[[], Result]) -> None:
        """Hand in work; waits only while too much is waiting already."""
        waiting = [earlier for earlier in self._work if not earlier.done()]
        if len(waiting) >= _MOST_WAITING:
            waiting[0].exception()
        self._work.append(self._thread.submit(self._do, work))

    def done(self, wait: bool = False) -> Iterator[Result]:
        """The results since the last look, in order; with `wait` all of them. Raises what went wrong."""
        while self._work and (wait or self._work[0].done()):
            yield self._work.popleft().result()

    def close(self) -> None:
        """End the thread once it has done what it was given."""
        self._thread.shutdown()

    def _do(self, work: Callable[[], Result]) -> Result:
        if self._failed:
            raise self._failed
        try:
            return work()
        except Exception as error:
            self._failed = error
            raise
