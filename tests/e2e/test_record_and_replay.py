"""Sessions of native clients, recorded and replayed on other servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.journal import Journal
from ggrpc.engine.wire import messages as m
from tests.support.drivers import usable_device
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import generate, native_serving, serving, start_client
from tests.support.recordings import Recorder, recording

MIDDLE, OLDEST = "0.3.17", "0.3.16"
BETWEEN = {
    "4.0.0": "0.3.24",
    "5.0.0": "0.3.35",
    "5.1.0": "2026.8.10566",
    "6.0.0": "2026.9.10809",
    "7.0.0": "0.3.36",
}
TOKENS = 4


def model() -> Path:
    return shared("peer/models/micro_f16.gguf")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of the newest client with the newest native server."""
    folder = tmp_path_factory.mktemp("recorded")
    path = folder / "graph.bin"
    with native_serving(NEWEST) as server, recording(server, path) as recorder:
        expected, _ = generate(NEWEST, model(), folder / "l.npy", TOKENS, "local")
        tokens, _ = generate(
            NEWEST, model(), folder / "o.npy", TOKENS, recorder.endpoint
        )
    assert tokens == expected
    return path


def replay(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Run `ggrpc replay`; returns its exit code, rows and stderr."""
    command = [sys.executable, "-m", "ggrpc", "replay", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, [*map(json.loads, done.stdout.splitlines())], done.stderr


def all_equal(rows: list[dict[str, Any]]) -> bool:
    """Whether the logits of all graphs were compared, and none differed."""
    (tensor,) = [row for row in rows if row["kind"] == "tensor"]
    graphs = [row for row in rows if row["kind"] == "graph"]
    return (
        sum(row["count"] for row in graphs) == tensor["count"] == TOKENS + 1
        and tensor["result"] == "same"
        and tensor["nmse"] < 1e-5
    )


def test_replays_on_this_machine(recorded: Path) -> None:
    for device in ("cpu", usable_device().name):
        code, rows, stderr = replay(recorded, "-d", device)
        assert code == 0
        assert "ggrpc: " not in stderr  # a driver may print anything
        assert all_equal(rows)


def test_replays_on_ggrpc_and_on_an_older_native_server(recorded: Path) -> None:
    with serving() as ours, native_serving(MIDDLE) as older:
        code, rows, stderr = replay(recorded, ours.endpoint, older)
    assert (code, stderr) == (0, "")
    for endpoint in (ours.endpoint, older):
        assert all_equal([r for r in rows if r["target"] == str(endpoint)])


@pytest.mark.parametrize("version", BETWEEN)
def test_replays_on_native_servers_of_other_versions(
    recorded: Path, version: str
) -> None:
    with native_serving(BETWEEN[version]) as server:
        code, rows, stderr = replay(recorded, server)
    assert (code, stderr) == (0, "")
    assert all_equal(rows)


@pytest.mark.parametrize(
    "version", [OLDEST, MIDDLE, BETWEEN["5.1.0"], BETWEEN["6.0.0"]]
)
def test_session_of_an_older_client_replays_on_the_newest_server(
    tmp_path: Path, version: str
) -> None:
    """The opposite cannot work: the oldest ggml lacks ops of the newest client."""
    path = tmp_path / "graph.bin"
    with native_serving(version) as server, recording(server, path) as recorder:
        generate(version, model(), tmp_path / "o.npy", TOKENS, recorder.endpoint)
    with serving() as ours, native_serving(NEWEST) as newest:
        code, rows, stderr = replay(path, ours.endpoint, newest)
    assert (code, stderr) == (0, "")
    for endpoint in (ours.endpoint, newest):
        assert all_equal([r for r in rows if r["target"] == str(endpoint)])


def test_repeated_runs_give_the_same_result_and_are_timed(recorded: Path) -> None:
    """Each run has the same inputs and KV cache, on local and remote devices."""
    with native_serving(MIDDLE) as server:
        runs = [
            replay(recorded, *target, "--repeat", 5)
            for target in (["-d", "cpu"], [server])
        ]
    for code, rows, stderr in runs:
        assert (code, stderr) == (0, "")
        assert all_equal(rows)
        for row in [row for row in rows if row["kind"] == "graph"]:
            assert 0 < row["min_ms"] <= row["median_ms"] <= row["p99_ms"]
            assert row["recorded_ms"] > 0


def test_file_of_a_killed_recorder_is_valid(tmp_path: Path) -> None:
    peer_python(NEWEST)  # skips before a recorder is started that nothing would stop
    path = tmp_path / "graph.bin"
    with serving() as server:
        recorder = Recorder(server.endpoint, path)
        client = start_client(
            NEWEST, model(), tmp_path / "o.npy", 100, recorder.endpoint
        )
        while len(client_graphs(path)) < 3:
            assert client.poll() is None
        recorder.process.kill()
        recorder.process.communicate()
        client.kill()
        client.communicate()
    code, rows, _ = replay(path, "-d", "cpu")
    assert code == 0
    assert sum(row["count"] for row in rows if row["kind"] == "graph") >= 3
    assert {row["result"] for row in rows if row["kind"] == "tensor"} == {"same"}


def client_graphs(path: Path) -> list[Exchange]:
    """The graphs of a recording that is still being written."""
    with Journal(path) as journal:
        return [
            exchange
            for exchange in exchanges(journal)
            if isinstance(exchange, Exchange)
            and isinstance(exchange.request, (m.GraphCompute, m.GraphRecompute))
        ]


@pytest.mark.parametrize("weights", ["hash", "none"])
def test_missing_weights_come_from_the_model_or_are_random(
    tmp_path: Path, weights: str
) -> None:
    path = tmp_path / "graph.bin"
    with (
        serving() as server,
        recording(server.endpoint, path, "--weights", weights) as recorder,
    ):
        generate(MIDDLE, model(), tmp_path / "o.npy", TOKENS, recorder.endpoint)
    assert path.stat().st_size < model().stat().st_size
    code, rows, stderr = replay(path, "-d", "cpu", "--model", model())
    assert (code, all_equal(rows)) == (0, True)
    assert stderr == ""
    code, rows, stderr = replay(path, "-d", "cpu")
    assert code == 1
    assert "replaced with random data" in stderr
    assert any(row["result"] == "differs" and row["first"] for row in rows)


def test_recorder_ends_at_the_limit_of_graphs(tmp_path: Path) -> None:
    peer_python(NEWEST)  # skips before a recorder is started that nothing would stop
    path = tmp_path / "graph.bin"
    with serving() as server:
        recorder = Recorder(server.endpoint, path, "-n", "2")
        generate(NEWEST, model(), tmp_path / "o.npy", TOKENS, recorder.endpoint)
        code, stderr = recorder.wait()
    assert (code, "recorded 2 graphs" in stderr) == (0, True)
    assert len(client_graphs(path)) == 2
    assert replay(path, "-d", "cpu")[0] == 0


def test_complete_part_of_a_truncated_recording_is_replayed(
    recorded: Path, tmp_path: Path
) -> None:
    whole = recorded.read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole[: len(whole) * 98 // 100])
    code, rows, stderr = replay(cut, "-d", "cpu")
    assert code == 0 and rows
    assert "is truncated" in stderr


def test_existing_file_is_not_overwritten(recorded: Path) -> None:
    before = recorded.read_bytes()
    command = ["record", "0", "127.0.0.1:1", "-o", str(recorded)]
    done = subprocess.run(
        [sys.executable, "-m", "ggrpc", *command], capture_output=True, text=True
    )
    assert done.returncode == 9
    assert "--force" in done.stderr
    assert recorded.read_bytes() == before


def test_file_of_another_format_is_a_file_error() -> None:
    code, rows, stderr = replay(model(), "-d", "cpu")
    assert (code, rows) == (9, [])
    assert stderr.count("\n") == 1 and "is not a recording" in stderr
