"""Huge memory pages, which halve the time that a compiled program waits for its work space."""

import os
import sys
from pathlib import Path

SETTING = "glibc.malloc.hugetlb=1"
"""Lets glibc's malloc ask for huge pages."""

_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_again_with_huge_pages() -> None:
    """Replace this process by itself with huge pages, where the kernel gives them only to who asks.

    Each call of a compiled program takes its work space anew from the kernel; page by page that was a
    quarter of a training step at 2 layers of 512. The C library reads the setting before Python runs,
    so it can only be given to a new program. Nothing has been read or written yet; the process id stays.
    """
    settings = os.environ.get("GLIBC_TUNABLES", "")
    try:
        asked = "[madvise]" in _POLICY.read_text()
    except OSError:  # no Linux, or one without huge pages
        return
    if asked and "glibc.malloc.hugetlb" not in settings:
        os.environ["GLIBC_TUNABLES"] = f"{settings}:{SETTING}".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
