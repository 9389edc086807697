from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ggrpc
from ggrpc.endpoint import Endpoint
from ggrpc.engine.inspection.graphs import graphs_in
from ggrpc.engine.recording import recorder
from ggrpc.op import Op
from tests.support.devices import FailingDevice
from tests.support.processes import START_SECONDS, free_port
from tests.support.recordings import Recorder, compute
from tests.support.servers import running


@contextlib.contextmanager
def client_of(port: int, act: Callable[[Endpoint], object]) -> Iterator[None]:
    """A client in a thread, which waits until the recorder listens."""
    endpoint = Endpoint("127.0.0.1", port)
    errors: list[BaseException] = []

    def run() -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                socket.create_connection(endpoint).close()
                break
            except OSError:
                time.sleep(0.01)
        try:
            act(endpoint)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(START_SECONDS)
    assert not errors


def runs(path: Path) -> int:
    with graphs_in(path) as seen:
        return sum(one.runs for one in seen)


def test_ends_after_some_graphs_with_the_last_client(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path, port = tmp_path / "graph.bin", free_port()
    with running(host="127.0.0.1") as server, client_of(port, compute):
        outcome = piped("record", str(port), str(server), "-o", str(path), "-n", "2")
    assert (outcome.code, outcome.out) == (0, "")
    assert f"listening on 127.0.0.1:{port}, for {server}" in outcome.err
    assert f"recorded 2 graphs to {path}" in outcome.err
    assert runs(path) == 2


def test_ends_with_the_client_that_sent_just_enough_graphs(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path
) -> None:
    path, port = tmp_path / "graph.bin", free_port()
    with running(host="127.0.0.1") as server, client_of(port, compute):
        outcome = piped("record", str(port), str(server), "-o", str(path), "-n", "3")
    assert outcome.code == 0
    assert f"recorded 3 graphs to {path}" in outcome.err
    assert runs(path) == 3


def leave_after_two(endpoint: Endpoint) -> None:
    compute(endpoint, 2)


def leave_after_hello(endpoint: Endpoint) -> None:
    ggrpc.connect(endpoint, timeout=20).close()


def be_dropped(endpoint: Endpoint) -> None:
    compute(endpoint, 2)
    g = ggrpc.GraphBuilder()
    x = g.tensor("F32", 4)
    g.sqr(x)
    with (
        ggrpc.connect(endpoint, timeout=20) as server,
        pytest.raises(ggrpc.GgrpcError),
    ):
        ggrpc.compute(g, {x: [1, 2, 3, 4]}, devices=server.devices)


@pytest.mark.parametrize(
    ("act", "graphs"), [(leave_after_two, 2), (leave_after_hello, 0), (be_dropped, 3)]
)
def test_client_that_fails_before_the_limit_ends_the_recording(  # type: ignore[no-untyped-def]
    piped,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Endpoint], object],
    graphs: int,
) -> None:
    monkeypatch.setattr(recorder, "IDLE_TIMEOUT", 0.3)
    path, port = tmp_path / "graph.bin", free_port()
    device = FailingDevice(Op.SQR)
    with running(device, host="127.0.0.1") as server, client_of(port, act):
        outcome = piped("record", str(port), str(server), "-o", str(path), "-n", "5")
    assert outcome.code == 4
    assert f"recorded {graphs} of 5 graphs: the client left" in outcome.err
    assert runs(path) == graphs


def test_recording_with_a_limit_of_time_waits_for_clients_until_then(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "IDLE_TIMEOUT", 0.0)
    path, port = tmp_path / "graph.bin", free_port()
    limits = "-n", "5", "--for", "3"
    with (
        running(host="127.0.0.1") as server,
        client_of(port, leave_after_two),
    ):
        outcome = piped("record", str(port), str(server), "-o", str(path), *limits)
    assert (outcome.code, runs(path)) == (0, 2)


def test_next_client_in_time_continues_the_recording(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "IDLE_TIMEOUT", 2.0)
    path, port = tmp_path / "graph.bin", free_port()

    def three_clients(endpoint: Endpoint) -> None:
        for _ in range(3):
            compute(endpoint, 2)
            time.sleep(0.9)  # together longer than one wait

    with running(host="127.0.0.1") as server, client_of(port, three_clients):
        outcome = piped("record", str(port), str(server), "-o", str(path), "-n", "6")
    assert outcome.code == 0
    assert runs(path) == 6


def test_ends_after_some_time(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path, port = tmp_path / "graph.bin", free_port()
    with running(host="127.0.0.1") as server:
        arguments = (str(port), str(server), "-o", str(path), "--for", "0.2")
        outcome = piped("record", *arguments)
    assert outcome.code == 0
    assert f"recorded 0 graphs to {path}" in outcome.err


def test_several_clients_at_once_are_told_apart(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path, port = tmp_path / "graph.bin", free_port()

    def clients(endpoint: Endpoint) -> None:
        threads = [
            threading.Thread(target=compute, args=(endpoint, 5)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with running(host="127.0.0.1") as server, client_of(port, clients):
        arguments = (str(port), str(server), "-o", str(path), "-n", "20")
        assert piped("record", *arguments).code == 0
    with graphs_in(path) as seen:
        assert [one.runs for one in seen] == [5] * 4
        assert len({one.connection for one in seen}) == 4
    replayed = piped("replay", str(path), "-d", "cpu", "--json")
    assert replayed.code == 0
    assert [row["count"] for row in replayed.rows] == [20, 20]


def test_what_is_no_client_of_ggml_passes_too(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path, port = tmp_path / "graph.bin", free_port()

    def strangers(endpoint: Endpoint) -> None:
        # A browser; a HELLO without an end; a SET_TENSOR of no bytes before a HELLO.
        for said in b"GET / HTTP/1.1\r\n\r\n", b"\x0e\xff", b"\x06" + bytes(8):
            with socket.create_connection(endpoint) as sock:
                sock.sendall(said)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(100):
                    pass
        compute(endpoint, 3)

    with running(host="127.0.0.1") as server, client_of(port, strangers):
        arguments = (str(port), str(server), "-o", str(path), "-n", "2")
        assert piped("record", *arguments).code == 0
    assert runs(path) == 2
    outcome = piped("replay", str(path), "-d", "cpu", "--json")
    assert outcome.code == 0
    assert [row["count"] for row in outcome.rows] == [2, 2]


def test_full_disk_is_an_error_at_once(piped) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("record", "0", "localhost", "-o", "/dev/full", "--force")
    assert outcome.code == 9
    assert "No space left on device" in outcome.err


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit of util-linux")
def test_full_disk_ends_the_recording_and_not_the_client(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path
) -> None:
    path = tmp_path / "graph.bin"
    with running(host="127.0.0.1") as server:
        process = Recorder(server, path, max_bytes=1_000_000)
        compute(process.endpoint, steps=2, rows=1 << 13)  # and continues until its end
        code, said = process.wait()
    assert code == 9
    assert said.count("recording has stopped, forwarding continues") == 1
    assert path.stat().st_size == 1_000_000
    outcome = piped("replay", str(path), "-d", "cpu", "--json")
    assert (outcome.code, outcome.out) == (9, "")
    assert "is truncated before its first graph: nothing was replayed" in outcome.err


def test_file_that_is_there_is_kept_unless_forced(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "graph.bin"
    path.write_bytes(b"precious")
    arguments = ("record", "0", "localhost", "-o", str(path), "--for", "0")
    outcome = piped(*arguments)
    assert outcome.code == 9 and "--force to replace it" in outcome.err
    assert path.read_bytes() == b"precious"
    assert piped(*arguments, "--force").code == 0
    assert path.read_bytes().startswith(b"GGRPCREC")


def test_taken_port_leaves_no_file(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "graph.bin"
    with running(host="127.0.0.1") as server:
        outcome = piped("record", str(server), "localhost", "-o", str(path))
    assert outcome.code == 3
    assert not path.exists()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "example.org:1"])
def test_others_reach_it_only_where_that_was_asked_for(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, listen: str
) -> None:
    path = tmp_path / "graph.bin"
    outcome = piped("record", listen, "localhost", "-o", str(path))
    assert outcome.code == 2 and "--expose" in outcome.err
    assert not path.exists()
