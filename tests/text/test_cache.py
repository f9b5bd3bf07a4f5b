"""The user's cache folder."""

import os
import tempfile
from pathlib import Path

import pytest

from charrnn.text.cache import default_cache_folder, usable_cache_folder


def test_a_temporary_cache_that_others_may_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = usable_cache_folder()
    assert ours == tmp_path / f"charrnn-{os.getuid()}" and ours.stat().st_mode & 0o777 == 0o700
    ours.chmod(0o777)
    other = usable_cache_folder()
    assert other.parent == tmp_path and other != ours and other.is_dir()


def test_cache_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "chosen"))
    assert default_cache_folder() == usable_cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("CHARRNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "xdg" / "charrnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == tmp_path / ".cache" / "charrnn"
    (tmp_path / ".cache").write_text("a file is in the way")
    assert usable_cache_folder() != default_cache_folder()
