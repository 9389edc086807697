"""Where the real peer, its models and the captured sessions are.

On a developer's machine a missing one is a skip that says how to get it; in CI it is a
failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PEERS = Path(os.environ.get("GGRPC_PEERS") or CACHE / "ggrpc" / "peers")

ALWAYS = ("0.3.36", "0.3.17")  # what CI installs in any case


def shared(name: str) -> Path:
    """A file or folder of ../shared."""
    return _present(SHARED / name, "needs the project's shared folder beside it")


def peer_python(version: str) -> Path:
    """The Python that has a llama-cpp-python of this version."""
    home = PEERS / version
    if version in ALWAYS:
        _present(home / "ready", _how_to(version))
    elif not (home / "ready").exists():
        pytest.skip(_how_to(version))  # CI has it only where there is time to build it
    return home / "venv" / "bin" / "python"


def _how_to(version: str) -> str:
    return f"needs the real peer: .ci/install-peer {version}"


def _present(path: Path, otherwise: str) -> Path:
    if not path.exists():
        message = f"{path} is not there: {otherwise}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
