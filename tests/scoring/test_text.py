"""A text that is to be scored and cannot be prepared."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from charrnn.errors import StorageError
from charrnn.model import Model
from charrnn.scoring.text import ReadyText
from charrnn.text.corpus import SymbolWriter


def test_where_to_make_room_is_told(
    letters: Model, make_text: Callable[..., ReadyText], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SymbolWriter, "write", full)
    with pytest.raises(StorageError, match=r"No space left .* name another folder in TMPDIR$"):
        make_text(letters, "abc")
