"""A meeting place of the test's own for sessions and those who ask them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a short name, as sockets need."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)
