from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.recording.weight_recording import WeightRecording
from ggrpc.op import Op
from tests.support.caches import random_bytes, write_gguf
from tests.support.devices import FailingDevice, WrongDevice
from tests.support.processes import free_port
from tests.support.recordings import compute, recorded_here
from tests.support.servers import running

STEPS = 3


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recording of a client that computed 'y' three times."""
    return str(recorded_here(tmp_path_factory.mktemp("recorded") / "graph.bin"))


def kinds(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def test_device_of_this_machine_gives_the_same(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("replay", session, "-d", "cpu", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    graph, tensor = outcome.rows
    assert (graph["kind"], graph["name"], graph["count"]) == ("graph", "2 nodes", STEPS)
    assert 0 < graph["min_ms"] <= graph["median_ms"] <= graph["p99_ms"]
    assert graph["recorded_ms"] > 0
    # The client reads bytes; the graph tells which tensor they are.
    assert (tensor["name"], tensor["count"], tensor["result"]) == ("y", STEPS, "same")
    assert tensor["nmse"] < 1e-9 and tensor["first"] is None


def test_servers_are_shown_one_after_the_other(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    with running(host="127.0.0.1") as one, running(host="127.0.0.1") as other:
        outcome = piped("replay", session, str(one), str(other))
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "TARGET",
        *(str(one),) * 2,
        *(str(other),) * 2,
        *map(str, (one, other)),
    ]


def test_terminal_shows_a_table(typed, session: str) -> None:  # type: ignore[no-untyped-def]
    outcome = typed("replay", session, "-d", "cpu", width=160)
    assert outcome.code == 0
    header, graph, tensor, verdict = outcome.out.splitlines()
    assert "MEDIAN ms" in header and "2 nodes" in graph and "same" in tensor
    assert "3 graphs, 3 results" in verdict and "same" in verdict


def test_repeats_are_timed_and_the_last_is_compared(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    with running(host="127.0.0.1") as server:
        outcome = piped("replay", session, str(server), "--repeat", "4", "--json")
    assert outcome.code == 0
    graph, tensor = outcome.rows
    assert (graph["count"], tensor["count"], tensor["result"]) == (STEPS, STEPS, "same")


def test_wrong_results_are_named_and_exit_with_1(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    with running(WrongDevice(Op.UNARY), host="127.0.0.1") as server:
        outcome = piped("replay", session, str(server), "--json")
        tolerated = piped("replay", session, str(server), "--tolerance", "1e80")
    assert outcome.code == 1
    (tensor,) = kinds(outcome.rows, "tensor")
    assert tensor["result"] == "differs"
    assert tensor["nmse"] > 1e-3 and tensor["largest"] > 0
    assert tensor["first"].startswith("graph ")
    assert tolerated.code == 0


def test_what_is_left_out_is_made_up_and_said(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = recorded_here(tmp_path / "graph.bin", WeightRecording.NONE)
    outcome = piped("replay", str(path), "-d", "cpu", "--json")
    assert outcome.code == 1
    assert "1 tensors are missing from the recording" in outcome.err
    again = piped("replay", str(path), "-d", "cpu", "--json")
    assert kinds(outcome.rows, "tensor") == kinds(again.rows, "tensor")


def test_server_that_drops_says_what_was_done(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def client(endpoint: Endpoint) -> None:
        compute(endpoint)
        other_graph(endpoint)

    path = recorded_here(tmp_path / "graph.bin", client=client)
    with running(FailingDevice(Op.SQR), host="127.0.0.1") as server:
        outcome = piped("replay", str(path), str(server), "--json")
    assert outcome.code == 6
    assert "3 graphs were run and 3 results compared before" in outcome.err
    assert outcome.err.count("\n") == 1
    assert [row["count"] for row in outcome.rows] == [3, 3]


def other_graph(endpoint: Endpoint) -> None:
    """A client whose graph squares a tensor."""
    import ggrpc

    g = ggrpc.GraphBuilder()
    x = g.tensor("F32", 4)
    g.sqr(x)
    with ggrpc.connect(endpoint, timeout=20) as server:
        ggrpc.compute(g, {x: [1, 2, 3, 4]}, devices=server.devices)


def test_graph_that_made_the_recorded_server_drop_is_named(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path
) -> None:
    import ggrpc

    def client(endpoint: Endpoint) -> None:
        compute(endpoint)
        with pytest.raises(ggrpc.GgrpcError):
            other_graph(endpoint)

    path = recorded_here(
        tmp_path / "graph.bin", devices=[FailingDevice(Op.SQR)], client=client
    )
    outcome = piped("replay", str(path), "-d", "cpu", "--json")
    assert outcome.code == 0
    assert "the recorded server closed a connection" in outcome.err
    assert "after graph 4" in outcome.err
    assert [row["count"] for row in kinds(outcome.rows, "graph")] == [3, 1]


def test_devices_that_the_target_lacks_are_told(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import ggrpc

    def client(endpoint: Endpoint) -> None:
        g = ggrpc.GraphBuilder()
        x = g.tensor("F32", 4)
        g.sqr(x)
        with ggrpc.connect(endpoint, timeout=20) as server:
            ggrpc.compute(g, {x: [1, 2, 3, 4]}, devices=[server.device(1)])

    two = CpuDevice(threads=1), CpuDevice(threads=1)
    path = recorded_here(tmp_path / "graph.bin", devices=two, client=client)
    outcome = piped("replay", str(path), "-d", "cpu", "--json")
    assert outcome.code == 0
    assert "uses 2 devices, the target has 1" in outcome.err


def test_clients_give_their_memory_back(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def client(endpoint: Endpoint) -> None:
        for _ in range(5):
            compute(endpoint, 1)

    class Small(CpuDevice):
        """A device with memory for two buffers."""

        buffers = 0

        def allocate(self, size: int):  # type: ignore[no-untyped-def]
            Small.buffers += 1
            buffer = super().allocate(size)
            free = buffer.free

            def freed() -> None:
                Small.buffers -= 1
                free()

            buffer.free = freed  # type: ignore[method-assign]
            assert Small.buffers <= 2
            return buffer

    path = recorded_here(tmp_path / "graph.bin", client=client)
    with running(Small(threads=1), host="127.0.0.1") as server:
        outcome = piped("replay", str(path), str(server), "--json")
    assert (outcome.code, outcome.err) == (0, "")


def test_replay_on_unreachable_and_reachable_servers(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    unreachable = f"127.0.0.1:{free_port()}"
    assert piped("replay", session, unreachable).code == 3
    with running(host="127.0.0.1") as server:
        outcome = piped("replay", session, unreachable, str(server), "--json")
    assert outcome.code == 7
    assert {row["target"] for row in outcome.rows} == {str(server)}


def test_cut_recording_is_replayed_as_far_as_it_goes(  # type: ignore[no-untyped-def]
    piped, session: str, tmp_path: Path
) -> None:
    whole = Path(session).read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole[: len(whole) * 9 // 10])
    outcome = piped("replay", str(cut), "-d", "cpu", "--json")
    assert outcome.code == 0
    assert "is truncated: its complete part was replayed" in outcome.err


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"GGUF" + bytes(60), "is not a recording of 'ggrpc record'"),
        (b"GGRPCREC" + bytes([9, 0, 0, 0] + [0] * 4), "this ggrpc reads up to 1"),
    ],
)
def test_other_files_are_one_line_and_their_exit_code(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, start: bytes, said: str
) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(start)
    outcome = piped("replay", str(path), "-d", "cpu")
    assert (outcome.code, outcome.out) == (9, "")
    assert said in outcome.err and outcome.err.count("\n") == 1


def test_wrong_checksum_is_found(piped, session: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    damaged = bytearray(Path(session).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path = tmp_path / "damaged.bin"
    path.write_bytes(damaged)
    outcome = piped("replay", str(path), "-d", "cpu")
    assert outcome.code == 9
    assert "is damaged, record it again" in outcome.err
    assert outcome.err.count("\n") == 1


def test_target_is_a_device_or_servers(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    assert piped("replay", session, "localhost", "-d", "cpu").code == 2
    assert piped("replay", session).code == 2
    assert piped("replay", session, "-d", "none").code == 2


def without_graph(endpoint: Endpoint) -> None:
    """A client that sends queries only."""
    import ggrpc

    with ggrpc.connect(endpoint, timeout=20) as server:
        server.device().memory()


def test_recording_without_a_graph_is_an_error(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = recorded_here(tmp_path / "graph.bin", client=without_graph)
    for extra in ([], ["--json"]):
        outcome = piped("replay", str(path), "-d", "cpu", *extra)
        assert outcome.code == 9
        assert f"{path} has no graph: nothing was replayed" in outcome.err
        assert "same" not in outcome.out


def test_recording_cut_before_its_first_graph_is_an_error(  # type: ignore[no-untyped-def]
    piped, session: str, tmp_path: Path
) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(Path(session).read_bytes()[:900])
    outcome = piped("replay", str(path), "-d", "cpu")
    assert outcome.code == 9
    assert "is truncated before its first graph: nothing was replayed" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "option",
    [
        ("--timeout", "5"),
        ("--protocol", "7.0.0"),
        ("--op-table", "2026-01-01"),
        ("--tls",),
    ],
)
def test_options_of_a_connection_are_refused_for_a_device(  # type: ignore[no-untyped-def]
    piped, session: str, option: tuple[str, ...]
) -> None:
    outcome = piped("replay", session, "-d", "cpu", *option)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{option[0]} has no effect with --device" in outcome.err


def test_model_that_gives_no_tensor_is_told(piped, session: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = write_gguf(tmp_path / "model.gguf", random_bytes())
    outcome = piped("replay", session, "-d", "cpu", "--model", str(model))
    assert outcome.code == 0
    assert "no tensor came from --model" in outcome.err


def test_last_lines_give_a_verdict_for_each_server(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    unreachable = f"127.0.0.1:{free_port()}"
    with (
        running(host="127.0.0.1") as good,
        running(WrongDevice(Op.UNARY), host="127.0.0.1") as wrong,
    ):
        arguments = ("replay", session, str(good), str(wrong), unreachable)
        outcome = piped(*arguments)
        bare = piped(*arguments, "--no-headers")
    assert outcome.code == 1
    header, *lines = outcome.out.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines[-3:]] == [
        (str(good), "same"),
        (str(wrong), "differs"),
        (unreachable, "failed"),
    ]
    # The columns of all servers are aligned.
    start = header.index("KIND")
    assert {line[start - 2 : start] for line in lines} == {"  "}
    assert "all" not in bare.out


def test_infinite_results_are_null_and_numpy_is_silent(tmp_path: Path) -> None:
    import ggrpc

    def client(endpoint: Endpoint) -> None:
        g = ggrpc.GraphBuilder()
        x = g.tensor("F32", 4)
        g.exp(x, name="y")
        with ggrpc.connect(endpoint, timeout=20) as server:
            ggrpc.compute(g, {x: [1000, 1, 2, 3e38]}, devices=server.devices)

    path = recorded_here(tmp_path / "graph.bin", client=client)
    with running(WrongDevice(Op.UNARY), host="127.0.0.1") as server:
        done = subprocess.run(
            [sys.executable, "-m", "ggrpc", "replay", path, str(server), "--json"],
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "")
    rows = [
        json.loads(line, parse_constant=pytest.fail)
        for line in done.stdout.splitlines()
    ]
    (tensor,) = kinds(rows, "tensor")
    assert (tensor["nmse"], tensor["result"]) == (None, "differs")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("option", ["--tolerance", "--timeout"])
def test_numbers_are_finite(piped, session: str, option: str, value: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("replay", session, "localhost", f"{option}={value}")
    assert outcome.code == 2
    assert f"invalid value for '{option}'" in outcome.err
