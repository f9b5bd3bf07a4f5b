"""Whether a step fits into memory, told before it is tried, and which batch would fit."""

import contextlib
import ctypes
import os
from pathlib import Path

import jax

from charrnn.errors import TrainingError
from charrnn.training.task import Task

_SHARE = 0.9
_BATCHES_A_CALL = 16
_COPIES = 4  # weights, two moments, gradients


def check_memory(task: Task) -> None:
    """Raise TrainingError where a training step needs clearly more memory than there is.

    An operating system grants more than it has and then ends the program without a word; so this is
    a rough count beforehand: the weights a few times, and what each character of a window leaves behind.
    """
    available = available_memory()
    if available and needed_memory(task, _batch_of(task)) > available:
        raise too_large(task, "")


def too_large(task: Task, why: str) -> TrainingError:
    """What to say where a step did not or would not fit, with a batch that does."""
    batch, available = _batch_of(task), available_memory()
    smaller = batch // 2
    while available and smaller > 1 and needed_memory(task, smaller) > _SHARE * available:
        smaller //= 2
    advice = f"--batch-size {smaller} would fit" if smaller else "a smaller --hidden or --seq-length would fit"
    if smaller and available and needed_memory(task, smaller) > available:
        advice = "even one stream is too large: give a smaller --hidden or --seq-length"
    needed = f"about {_human(needed_memory(task, batch))} needed"
    there = f", {_human(available)} available" if available else ""
    reason = f" ({why})" if why else ""
    return TrainingError(f"not enough memory for a training step: {needed}{there}{reason}; {advice}")


def needed_memory(task: Task, batch_size: int) -> int:
    """Roughly the bytes that training takes at a batch size, rather too few than too many."""
    model, length = task.config.model, task.config.training.seq_length
    assert model.hidden_size and length
    width, vocabulary = model.hidden_size, task.vocabulary.size
    weights = model.num_layers * 2 * width * width + 2 * width * vocabulary
    kept = 4 * (2 * vocabulary + model.num_layers * 4 * width)
    return 4 * _COPIES * weights + length * batch_size * (kept + 9 * _BATCHES_A_CALL)


def available_memory(info: Path = Path("/proc/meminfo")) -> int:
    """Bytes that can still be taken on the device that trains; 0 where nobody knows."""
    if (figures := jax.local_devices()[0].memory_stats()) and figures.get("bytes_limit"):
        return int(figures["bytes_limit"]) - int(figures.get("bytes_in_use", 0))
    try:
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        if "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return 0


def _batch_of(task: Task) -> int:
    """Streams read side by side."""
    assert task.config.training.batch_size
    return task.config.training.batch_size


def _human(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def give_back_freed_memory() -> None:
    """Hand the memory that was freed back to the system; the GNU C library would keep it.

    What compiling a program leaves behind is a hundred megabytes and more.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
