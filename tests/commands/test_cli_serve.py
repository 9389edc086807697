from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ggrpc import __version__
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.wire.dialects import NEWEST
from ggrpc.errors import ConnectError
from tests.support.drivers import usable_device
from tests.support.processes import Served, free_port, serving
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def served():  # type: ignore[no-untyped-def]
    with serving("--threads", "1") as served:
        yield served


def refused(*arguments: str) -> tuple[int, str]:
    """The exit code and stderr of a server that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "ggrpc", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_start_logs_versions_devices_and_addresses(served: Served) -> None:
    endpoint = served.endpoint
    lines = [line.split(" ", 3)[2:] for line in served.log.splitlines()[:3]]
    versions = f"1.0.0 to {NEWEST.version}"
    assert lines[0] == ["INFO", f"ggrpc {__version__} speaks protocol {versions}"]
    assert re.fullmatch(r"device 0 is cpu: .+, \S+ .iB of \S+ .iB free", lines[1][1])
    assert lines[2] == ["INFO", f"listening on {endpoint}"]
    assert endpoint.host == "127.0.0.1"
    assert endpoint.port > 0


def test_best_device_is_the_default() -> None:
    with serving(device=None) as served:
        assert served.endpoint
    assert f"device 0 is {usable_device().name}: " in served.log


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_commands_see_the_server(piped, served: Served, command: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped(command, str(served.endpoint), "--json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert 0 < row["memory_free_bytes"] <= row["memory_total_bytes"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_sessions_and_exits_0(
    number: signal.Signals, tmp_path: Path
) -> None:
    served = Served([], str(tmp_path))
    with connect(served.endpoint, timeout=10) as client:
        client.allocate(1 << 20)
        served.process.send_signal(number)
        assert served.process.wait(20) == 0
    served.stop()
    assert served.log.count("\n") == 5
    assert "session ended after 3 requests, 1.0 MiB freed" in served.log
    assert served.log.endswith(" INFO stopped\n")


def test_signals_in_quick_succession_end_the_server(tmp_path: Path) -> None:
    served = Served([], str(tmp_path))
    assert served.endpoint
    for _ in range(2):
        served.process.terminate()
    assert served.process.wait(20) in (0, -signal.SIGTERM)
    served.stop()
    assert "Traceback" not in served.log


def test_log_may_be_json() -> None:
    with (
        serving("--log-format", "json", "--log-level", "debug") as served,
        connect(served.endpoint, timeout=10) as client,
    ):
        client.memory()
        client.free(1)
        served.wait_for_line("connection is closed")
    rows = [json.loads(line) for line in served.log.splitlines()]
    (row,) = [row for row in rows if row["level"] == "warning"]
    assert row["command"] == "FREE_BUFFER"
    assert row["peer"].startswith("127.0.0.1:")
    assert rows[-1]["message"] == "stopped"


def test_quiet_server_logs_nothing(tmp_path: Path) -> None:
    endpoint = Endpoint("127.0.0.1", free_port())
    served = Served(["-q", "-p", str(endpoint.port)], str(tmp_path))

    def is_open() -> bool:
        assert served.process.poll() is None, served.log
        return _is_open(endpoint)

    wait_until(is_open)
    assert served.stop() == 0
    assert served.log == ""


def _is_open(endpoint: Endpoint) -> bool:
    try:
        connect(endpoint, timeout=10).close()
    except ConnectError:
        return False
    return True


@pytest.mark.parametrize(("version", "hello"), [("3.6.1", "3.6.1"), ("7", "7.0.0")])
def test_protocol_can_be_forced(piped, version: str, hello: str) -> None:  # type: ignore[no-untyped-def]
    with serving("--protocol", version) as served:
        (row,) = piped("probe", str(served.endpoint), "--json").rows
        assert f"speaks protocol {hello}\n" in served.log
    assert row["protocol"] == hello


def test_cache_flag_is_that_of_rpc_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path))
    with serving("-c", "-t", "1", "-d", "cpu", "-H", "127.0.0.1") as served:
        assert served.endpoint
        assert f"cache {tmp_path}/rpc, at most " in served.log
        assert "WARNING" not in served.log


def test_invalid_cache_folder_exits_9(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    served = Served(["--cache-dir", str(tmp_path / "file")], str(tmp_path))
    assert served.process.wait(30) == 9
    assert served.stop() == 9
    assert "cannot be used as a cache" in served.log


def test_missing_model_exits_9(tmp_path: Path) -> None:
    served = Served(["--models", str(tmp_path / "none.gguf")], str(tmp_path))
    assert served.process.wait(30) == 9
    assert served.stop() == 9
    assert "there is no model at" in served.log


def test_truncated_model_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    with serving("--models", str(tmp_path), "--cache-dir", str(tmp_path)) as served:
        served.wait_for_line("is not a valid GGUF")
        served.wait_for_line("clients will send tensors not yet indexed")


def test_listening_on_all_addresses_is_a_warning() -> None:
    with serving("-H", "0.0.0.0") as served:
        served.wait_for_line("WARNING other machines can connect")


def test_several_devices_are_served(piped) -> None:  # type: ignore[no-untyped-def]
    with serving("-d", "cpu,cpu", "--weight-cache", "0") as served:
        rows = piped("mem", str(served.endpoint), "--json").rows
        assert "device 1 is cpu" in served.log
    assert [row["device"] for row in rows] == [0, 1]


def test_port_in_use_exits_3(served: Served) -> None:
    port = str(served.endpoint.port)
    code, err = refused("-p", port)
    assert code == 3
    assert err.startswith(f"ggrpc: error: cannot listen on 127.0.0.1:{port}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["-d", "cuda0"], 2, "there is no device 'cuda0' on this machine, only cpu"),
        (["--protocol", "9"], 2, "protocol '9' is not supported"),
        (["--protocol", "5.0,7.0"], 2, "--protocol 5.0,7.0 is ambiguous"),
        (["--op-table", "today"], 2, "'today' names no op table"),
        (["--weight-cache", "lots"], 2, "'lots' is not a valid size"),
        (["--allow", "lan"], 2, "--allow: 'lan' does not appear to be"),
        (["--comm-peers", "lan"], 2, "--comm-peers: 'lan' does not appear to be"),
        (["-H", "a..b"], 2, "'a..b:50052' is not a valid endpoint"),
        (["-H", "192.0.2.1"], 3, "cannot listen on 192.0.2.1:50052"),
    ],
)
def test_invalid_option_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, line: str
) -> None:
    got, err = refused(*arguments)
    assert got == code
    assert err.startswith(f"ggrpc: error: {line}")
    assert err.count("\n") == 1


def test_device_that_cannot_be_used_exits_8(piped, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from ggrpc.devices.opencl.runtime import discovery

    found = discovery.Found("opencl:0", "GPU (Maker)", 2 << 30, 1 << 30, False, None)
    monkeypatch.setattr(discovery, "discover", lambda: [found])
    monkeypatch.setattr(discovery, "unusable_reason", lambda found: "its driver failed")
    code, out, err = piped("serve", "-p", "0", "-d", "opencl:0")
    assert (code, out) == (8, "")
    assert err.startswith("ggrpc: error: opencl:0 cannot be used: ")


@pytest.mark.parametrize("flag", ["--max-memory", "--max-client-memory"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("0", "0 leaves clients no memory"),
        ("1000T", "1000.0 TiB exceeds the memory of the devices,"),
    ],
)
def test_memory_that_cannot_be_had_exits_2(  # type: ignore[no-untyped-def]
    piped, flag: str, size: str, message: str
) -> None:
    code, _, err = piped("serve", "-d", "cpu", "-p", "0", flag, size)
    assert code == 2
    assert f"{flag} {message}" in err


def test_start_line_shows_the_memory_that_clients_get() -> None:
    with serving("--max-memory", "64M") as served:
        assert served.endpoint
        line = next(line for line in served.lines if "device 0 is cpu" in line)
    assert "64.0 MiB of 64.0 MiB free for clients (--max-memory)" in line
