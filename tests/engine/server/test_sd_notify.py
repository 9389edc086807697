from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from ggrpc.engine.server.sd_notify import READY, STOPPING, notify


def listening(address: str | bytes) -> socket.socket:
    """A socket like systemd's."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(10)
    return sock


def test_states_arrive_as_datagrams_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    with listening(str(tmp_path / "s")) as sock:
        notify(READY)
        notify(STOPPING)
        assert sock.recv(100) == b"READY=1"
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.skipif(sys.platform != "linux", reason="needs abstract sockets")
def test_address_with_an_at_is_abstract(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
    with listening(f"\0{tmp_path}".encode()) as sock:
        notify(READY)
        assert sock.recv(100) == b"READY=1"
        assert list(tmp_path.iterdir()) == []


def test_without_an_address_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(address: str, data: bytes) -> None:
        raise AssertionError(address)

    monkeypatch.setattr("ggrpc.engine.server.sd_notify.send_datagram", fail)
    for address in (None, ""):
        if address is None:
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        else:
            monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify(READY)
    assert caplog.records == []


def test_socket_that_does_not_exist_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    notify(READY)
    assert "cannot send READY=1 to $NOTIFY_SOCKET: No such file" in caplog.text
