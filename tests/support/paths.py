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
NEWEST = "2026.10.11549"
ALWAYS = (NEWEST, "0.3.36", "0.3.17")  # the versions that CI always installs
# For each release of xllamacpp, the release of llama-cpp-python whose Python package
# loads its libraries. They must have all functions that the package asks for.
DRIVERS = {NEWEST: "0.3.36", "2026.8.10566": "0.3.35", "2026.9.10809": "0.3.35"}


def shared(name: str) -> Path:
    """A file or folder of ../shared."""
    return present(SHARED / name, "needs the project's shared folder beside it")


def peer_python(version: str) -> Path:
    """The Python interpreter for a version of the peer; needs `peer_environment`."""
    home = _home(version)
    return (_home(DRIVERS[version]) if version in DRIVERS else home) / "venv/bin/python"


def peer_client(version: str) -> Path:
    """The client's script for `peer_python`."""
    if version == NEWEST or version not in DRIVERS:
        return shared("peer/llama_client.py")
    return Path(__file__).with_name("llama_older_tree.py")


def has_peer(version: str) -> bool:
    """Whether a version of the peer is here; CI must have it."""
    needed = version, DRIVERS.get(version, version)
    ready = all((PEERS / each / "ready").exists() for each in needed)
    return ready or bool(os.environ.get("CI"))


def peer_environment(version: str) -> dict[str, str]:
    """The variables that `peer_python` needs."""
    if version in DRIVERS:
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
