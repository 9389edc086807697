"""A runtime directory for one test, for the sockets of shared sessions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def xdg_runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder; its path is short, because those of sockets are limited."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)
