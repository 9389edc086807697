"""The paths of the real peer, its models and the captured sessions.

If one is missing, CI fails; other runs skip the test and say how to get it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PEERS = Path(os.environ.get("GGRPC_PEERS") or CACHE / "ggrpc" / "peers")

# A version is a release of llama-cpp-python, or one of xllamacpp, which begins with 20.
# The Python package of DRIVER loads the libraries of xllamacpp.
NEWEST = "2026.10.11549"
DRIVER = "0.3.36"
ALWAYS = (NEWEST, DRIVER, "0.3.17")  # the versions that CI always installs


def shared(name: str) -> Path:
    """A file or folder of ../shared."""
    return present(SHARED / name, "needs the project's shared folder beside it")


def peer_python(version: str) -> Path:
    """The Python interpreter for a version of the peer; needs `peer_environment`."""
    return _home(DRIVER if version.startswith("20") else version) / "venv/bin/python"


def has_peer(version: str) -> bool:
    """Whether a version of the peer is here; CI must have it."""
    ready = all((PEERS / each / "ready").exists() for each in (version, DRIVER))
    return ready or bool(os.environ.get("CI"))


def peer_environment(version: str) -> dict[str, str]:
    """The variables that `peer_python` needs."""
    if version.startswith("20"):
        libraries = str(_home(version) / "bin")
        # The second variable keeps the package from loading its own libraries too.
        both = {"LLAMA_LIB": libraries, "LLAMA_CPP_LIB_PATH": libraries}
        return {**os.environ, **both}
    return dict(os.environ)


def _home(version: str) -> Path:
    home = PEERS / version
    if version in ALWAYS:
        present(home / "ready", _how_to(version))
    elif not (home / "ready").exists():
        pytest.skip(_how_to(version))  # CI builds these only if there is time
    return home


def _how_to(version: str) -> str:
    return f"needs the real peer: .ci/install-peer {version}"


def present(path: Path, otherwise: str) -> Path:
    """A path that exists; if not, the test fails in CI, and is skipped elsewhere."""
    if not path.exists():
        message = f"{path} does not exist: {otherwise}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
