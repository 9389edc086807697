from __future__ import annotations

from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.session_sharing import (
    SharedSession,
    SharingServer,
    runtime_dir,
    shared_sessions,
)
from ggrpc.engine.sharing.workspace import Workspace
from ggrpc.errors import ConnectionLost, FileError, RefusedError
from tests.support.runtime_dir import xdg_runtime_dir  # noqa: F401  a fixture
from tests.support.servers import running

pytestmark = pytest.mark.usefixtures("xdg_runtime_dir")


@pytest.fixture
def workspace():  # type: ignore[no-untyped-def]
    with (
        running() as endpoint,
        connect(endpoint, timeout=60) as server,
        Workspace(server) as workspace,
    ):
        workspace.set("x", [1, 2])
        yield workspace


def test_another_process_can_save_shared_tensors(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.hold()
    (session,) = shared_sessions()
    assert session.endpoint == workspace.server.endpoint
    assert session.tensors == [
        {"name": "x", "type": "F32", "ne": [2, 1, 1, 1], "size_bytes": 8}
    ]
    session.save("x", tmp_path / "x.npy", force=False)
    assert np.load(tmp_path / "x.npy").tolist() == [1, 2]
    with pytest.raises(FileError, match="already exists: use --force"):
        session.save("x", tmp_path / "x.npy", force=False)
    with pytest.raises(RefusedError, match="there is no tensor 'y'"):
        session.save("y", tmp_path / "y.npy", force=False)


def test_results_are_shared_too(workspace: Workspace) -> None:
    workspace.node("y", "sqr", ["x"], {})
    workspace.compute([])
    with SharingServer(workspace.server.endpoint, workspace):
        (session,) = shared_sessions()
    assert [row["name"] for row in session.tensors] == ["x", "y"]


def test_nothing_is_shared_after_the_session_ends(workspace: Workspace) -> None:
    workspace.hold()
    (session,) = shared_sessions()
    workspace.close()
    assert not list(shared_sessions())
    with pytest.raises(ConnectionLost, match="has ended"):
        session.save("x", Path("x.npy"), force=False)


def test_stale_socket_is_removed() -> None:
    dead = runtime_dir() / "dead.sock"
    dead.touch()
    assert not list(shared_sessions())
    assert not dead.exists()


def test_invalid_requests_are_ignored(workspace: Workspace) -> None:
    with SharingServer(workspace.server.endpoint, workspace) as sharing:
        for junk in (b"no json", b'{"save": "x"}'):
            with Client(str(sharing.path), "AF_UNIX") as connection:
                connection.send_bytes(junk)
                with pytest.raises(EOFError):
                    connection.recv_bytes()
        assert SharedSession(sharing.path).tensors


def test_folder_open_to_other_users_is_refused(xdg_runtime_dir: Path) -> None:  # noqa: F811
    runtime_dir().chmod(0o755)
    with pytest.raises(FileError, match="other users have access to"):
        runtime_dir()


def test_folder_that_cannot_be_created_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nix/nada")
    with pytest.raises(FileError, match="cannot use /nix/nada"):
        runtime_dir()


def test_socket_with_too_long_a_name_is_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(FileError, match="cannot listen on"):
        workspace.hold()
