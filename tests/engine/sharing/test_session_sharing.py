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
from ggrpc.errors import ConfigError, ConnectionLost, RefusedError
from tests.support.meeting import meeting  # noqa: F401  a fixture
from tests.support.servers import running

pytestmark = pytest.mark.usefixtures("meeting")


@pytest.fixture
def bench():  # type: ignore[no-untyped-def]
    with (
        running() as endpoint,
        connect(endpoint, timeout=60) as server,
        Workspace(server) as bench,
    ):
        bench.set("x", [1, 2])
        yield bench


def test_another_process_may_save_what_is_held(
    bench: Workspace, tmp_path: Path
) -> None:
    bench.hold()
    (session,) = shared_sessions()
    assert session.endpoint == bench.server.endpoint
    assert session.tensors == [
        {"name": "x", "type": "F32", "ne": [2, 1, 1, 1], "size_bytes": 8}
    ]
    session.save("x", tmp_path / "x.npy", force=False)
    assert np.load(tmp_path / "x.npy").tolist() == [1, 2]
    with pytest.raises(RefusedError, match="already exists: use --force"):
        session.save("x", tmp_path / "x.npy", force=False)
    with pytest.raises(RefusedError, match="there is no tensor 'y'"):
        session.save("y", tmp_path / "y.npy", force=False)


def test_what_is_computed_is_held_too(bench: Workspace) -> None:
    bench.node("y", "sqr", ["x"], {})
    bench.compute([])
    with SharingServer(bench.server.endpoint, bench):
        (session,) = shared_sessions()
    assert [row["name"] for row in session.tensors] == ["x", "y"]


def test_nothing_is_held_any_more_after_the_session(bench: Workspace) -> None:
    bench.hold()
    (session,) = shared_sessions()
    bench.close()
    assert not list(shared_sessions())
    with pytest.raises(ConnectionLost, match="has gone"):
        session.save("x", Path("x.npy"), force=False)


def test_socket_that_nobody_listens_at_is_removed() -> None:
    dead = runtime_dir() / "dead.sock"
    dead.touch()
    assert not list(shared_sessions())
    assert not dead.exists()


def test_strangers_do_not_stop_the_holder(bench: Workspace) -> None:
    with SharingServer(bench.server.endpoint, bench) as holder:
        for junk in (b"no json", b'{"save": "x"}'):
            with Client(str(holder.path), "AF_UNIX") as connection:
                connection.send_bytes(junk)
                with pytest.raises(EOFError):
                    connection.recv_bytes()
        assert SharedSession(holder.path).tensors


def test_folder_that_others_may_enter_is_not_used(meeting: Path) -> None:  # noqa: F811
    runtime_dir().chmod(0o755)
    with pytest.raises(ConfigError, match="is not this user's alone"):
        runtime_dir()


def test_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nix/nada")
    with pytest.raises(ConfigError, match="cannot use /nix/nada"):
        runtime_dir()


def test_socket_with_too_long_a_name_is_refused(
    bench: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(ConfigError, match="cannot listen at"):
        bench.hold()
