from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from ggrpc.engine.server.sd_notify import READY, notify


def told(address: str | bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(10)
    return sock


def test_supervisor_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    with told(str(tmp_path / "s")) as sock:
        notify(READY)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.skipif(sys.platform != "linux", reason="needs abstract sockets")
def test_abstract_address_begins_with_an_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
    with told(f"\0{tmp_path}".encode()) as sock:
        notify(READY)
        assert sock.recv(100) == b"READY=1"


def test_without_a_supervisor_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY)


def test_supervisor_that_is_gone_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    notify(READY)
    assert "cannot send READY=1 to $NOTIFY_SOCKET: No such file" in caplog.text
