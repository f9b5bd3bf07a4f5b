"""What is asked of the libraries below: huge pages, by starting again, and wider fusions."""

import os
import sys
from pathlib import Path

import pytest

from charrnn.cli import environment


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
    monkeypatch.setattr(environment, "_POLICY", tmp_path / "enabled")
    if policy is not None:
        (tmp_path / "enabled").write_text(policy)
    monkeypatch.setattr(os, "environ", {} if before is None else {"GLIBC_TUNABLES": before})
    calls = list[tuple[str, list[str]]]()
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append((program, arguments)))
    for _ in range(2):  # the second is the process that was started again
        environment.start_again_with_huge_pages()
    if after is None:
        assert not calls and os.environ.get("GLIBC_TUNABLES") == before
    else:
        assert calls == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
        assert os.environ["GLIBC_TUNABLES"] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, environment.WIDE_FUSIONS),
        ("--xla_dump_to=x", f"--xla_dump_to=x {environment.WIDE_FUSIONS}"),
        ("--xla_backend_extra_options=other", "--xla_backend_extra_options=other"),
        ("/etc/xla.flags", "/etc/xla.flags"),
    ],
)
def test_flags_that_are_there_stay(before: str | None, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {} if before is None else {"XLA_FLAGS": before})
    for _ in range(2):
        environment.ask_for_wide_fusions()
    assert os.environ["XLA_FLAGS"] == after
