"""Starting again with huge pages."""

import os
import sys
from pathlib import Path

import pytest

from charrnn.cli import pages


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        ("always [madvise] never", None, "glibc.malloc.hugetlb=1"),
        ("always [madvise] never", "glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", None),
        ("[always] madvise never", None, None),
        (None, None, None),
    ],
)
def test_it_starts_again_once_and_only_where_pages_must_be_asked_for(
    policy: str | None, before: str | None, after: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_POLICY", tmp_path / "enabled")
    if policy is not None:
        (tmp_path / "enabled").write_text(policy)
    monkeypatch.setattr(os, "environ", {} if before is None else {"GLIBC_TUNABLES": before})
    calls = list[tuple[str, list[str]]]()
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append((program, arguments)))
    for _ in range(2):  # the second is the process that was started again
        pages.start_again_with_huge_pages()
    if after is None:
        assert not calls and os.environ.get("GLIBC_TUNABLES") == before
    else:
        assert calls == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
        assert os.environ["GLIBC_TUNABLES"] == after
