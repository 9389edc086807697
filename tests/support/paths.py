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
    python = PEERS / version / "venv" / "bin" / "python"
    return _present(python, f"needs the real peer: .ci/install-peer {version}")


def optional_peer(version: str) -> Path:
    """The same, for one that CI has only where there is time to build it."""
    if version in ALWAYS:
        return peer_python(version)
    python = PEERS / version / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs the real peer: .ci/install-peer {version}")
    return python


def _present(path: Path, otherwise: str) -> Path:
    if not path.exists():
        message = f"{path} is not there: {otherwise}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
