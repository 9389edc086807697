"""The file of the versions that clients use."""

from __future__ import annotations

import json
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ggrpc.engine.server import client_versions
from ggrpc.engine.server.client_versions import MAX_HOSTS, ClientVersions, state_file
from ggrpc.engine.wire.dialects import V2_0_0, V5_0_0, V7_0_0, V8_0_0

HOST = "10.0.0.5"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ggrpc" / "clients.json"


def protocols(file: Path) -> dict[str, list[str]]:
    clients = json.loads(file.read_text())["clients"]
    return {host: [e["protocol"] for e in entries] for host, entries in clients.items()}


def test_last_version_comes_first(file: Path) -> None:
    memory = ClientVersions(file)
    assert memory.remember(HOST, V8_0_0)
    assert memory.remember(HOST, V5_0_0)
    assert not memory.remember(HOST, V8_0_0)
    assert memory.known(HOST) == [V8_0_0, V5_0_0]
    assert protocols(file) == {HOST: ["8.0.0", "5.0.0"]}
    assert memory.known("10.0.0.6") == []


def test_servers_share_the_file(file: Path) -> None:
    one, other = ClientVersions(file), ClientVersions(file)
    one.remember(HOST, V7_0_0)
    assert other.known(HOST) == [V7_0_0]
    other.remember("10.0.0.6", V5_0_0)
    one.remember("10.0.0.7", V2_0_0)
    assert protocols(file) == {
        HOST: ["7.0.0"],
        "10.0.0.6": ["5.0.0"],
        "10.0.0.7": ["2.0.0"],
    }
    other.forget()
    assert one.clients() == {}


def test_servers_that_write_at_once_lose_nothing(file: Path) -> None:
    memories = [ClientVersions(file) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            list(
                pool.map(
                    lambda at, number=number: memories[at].remember(
                        f"10.{number}.0.{at}", V5_0_0
                    ),
                    range(8),
                )
            )
    assert len(protocols(file)) == 160


def test_unchanged_version_is_not_written_again(file: Path) -> None:
    memory = ClientVersions(file)
    memory.remember(HOST, V5_0_0)
    before = file.stat()
    assert not memory.remember(HOST, V5_0_0)
    assert file.stat() == before


def test_versions_fade(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ClientVersions(file).remember(HOST, V5_0_0)
    monkeypatch.setattr(client_versions, "LIFETIME", timedelta(0))
    assert ClientVersions(file).clients() == {}


def test_addresses_are_bounded() -> None:
    memory = ClientVersions()
    for i in range(MAX_HOSTS + 5):
        memory.remember(f"host{i}", V5_0_0)
    assert memory.known("host0") == []
    assert memory.known(f"host{MAX_HOSTS}") == [V5_0_0]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"clients": {"a": 7}}', '{"clients": []}', "\xff\x00"),
        '{"clients": {"a": [{"protocol": "7.0.0", "last": "yesterday"}]}}',
        '{"clients": {"a": [{"protocol": "7.0.0", "last": "2026-11-29"}]}}',
    ],
)
def test_broken_file_is_a_warning_and_replaced(
    file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    memory = ClientVersions(file)
    assert memory.known(HOST) == []
    assert "cannot be read" in caplog.text
    memory.remember(HOST, V5_0_0)
    assert protocols(file) == {HOST: ["5.0.0"]}


def test_file_of_an_earlier_release_is_read(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"clients": {HOST: ["9.0.0", "5.0.0"]}}))
    assert ClientVersions(file).known(HOST) == [V5_0_0]


def test_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    memory = ClientVersions(tmp_path / "file" / "clients.json")
    memory.remember(HOST, V5_0_0)
    assert "cannot be written" in caplog.text
    assert memory.known(HOST) == [V5_0_0]


def test_full_disk_leaves_the_old_file(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = ClientVersions(file)
    memory.remember(HOST, V2_0_0)
    before = file.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no file may grow
    try:
        memory.remember(HOST, V5_0_0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "clients.json cannot be written: File too large" in caplog.text
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]
    assert memory.known(HOST) == [V5_0_0, V2_0_0]


def test_file_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_file() == tmp_path / "ggrpc" / "clients.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_file().parts[-4:] == (".local", "state", "ggrpc", "clients.json")
