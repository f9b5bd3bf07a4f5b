"""What the program asks of the libraries below it before they start: huge memory pages, and wider fusions."""

import os
import sys
from pathlib import Path

SETTING = "glibc.malloc.hugetlb=1"
"""Lets glibc's malloc ask for huge pages."""

WIDE_FUSIONS = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion"
"""Lets XLA's CPU compiler make once what several results share. A compiler that does not know it ignores it."""

_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask_for_wide_fusions() -> None:
    """Tell XLA, which reads its flags when it first compiles. A training step took a tenth to a quarter less time."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags[:1] in ("", "-") and "xla_backend_extra_options" not in flags:  # others name a file of flags
        os.environ["XLA_FLAGS"] = f"{flags} {WIDE_FUSIONS}".lstrip()


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
