from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import gguf
import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Buffer, Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.link import CHUNK, MIN_BF16, Link
from ggrpc.errors import ConnectionLost, RemoteProtocolError, TransportTimeout
from tests.devices.conftest import open_opencl
from tests.support.waiting import wait_until

SIZES = (1, 7, MIN_BF16 - 1, MIN_BF16, CHUNK, 2 * CHUNK + 5)


@pytest.fixture(scope="module")
def cpu() -> Iterator[Device]:
    with CpuDevice(threads=1, weight_cache=0) as device:
        yield device


@pytest.fixture(scope="module", params=["cpu", "shared_memory", "own_memory"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The cpu device, and an OpenCL device with the host's memory or its own."""
    if request.param == "cpu":
        opened: Device = CpuDevice(threads=1, weight_cache=0)
    else:
        opened = open_opencl(shares_memory=request.param == "shared_memory")
    with opened:
        yield opened


def bf16(values: np.ndarray) -> np.ndarray:
    """Values as ggml rounds them to BF16."""
    kind = gguf.GGMLQuantizationType.BF16
    return np.asarray(gguf.dequantize(gguf.quantize(values, kind), kind))


def values(count: int, seed: int) -> np.ndarray:
    """Values of every magnitude, and special cases of rounding to BF16."""
    random = np.random.default_rng(seed)
    numbers = random.standard_normal(count) * 10.0 ** random.integers(-30, 30, count)
    array = numbers.astype(np.float32)
    array[::97], array[1::101] = np.inf, 3.0e38
    array[2::103] = np.float32(1) + np.float32(2**-8)  # half way between two
    return array


@contextmanager
def connected(timeout: float = 20) -> Iterator[tuple[Link, Link]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near = server.accept()[0]
    streams = [Stream(sock, Endpoint(*sock.getpeername())) for sock in (near, far)]
    try:
        yield Link(streams[0], 0, timeout), Link(streams[1], 1, timeout)
    finally:
        for stream in streams:
            stream.close()


def filled(device: Device, array: np.ndarray, at: int = 0) -> Buffer:
    buffer = device.allocate(at + array.nbytes)
    buffer.put(at, memoryview(array).cast("B"))
    return buffer


def content(buffer: Buffer, count: int, at: int = 0) -> np.ndarray:
    array = np.empty(count, np.float32)
    buffer.get(at, memoryview(array).cast("B"))
    return array


@pytest.mark.parametrize("count", SIZES)
def test_both_ends_add_what_travelled(device: Device, count: int) -> None:
    at, mine, theirs = 128, values(count, 1), values(count, 2)
    one, other = filled(device, mine, at), filled(device, theirs, at)
    with connected() as (first, second), ThreadPoolExecutor() as threads:
        for _ in range(2):
            one.put(at, memoryview(mine).cast("B"))
            other.put(at, memoryview(theirs).cast("B"))
            far = threads.submit(second.reduce, other, at, count)
            first.reduce(one, at, count)
            far.result(20)
    rounded = bf16 if count >= MIN_BF16 else np.asarray
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.array_equal(
            content(one, count, at), mine + rounded(theirs), equal_nan=True
        )
        assert np.array_equal(
            content(other, count, at), theirs + rounded(mine), equal_nan=True
        )
    assert not content(one, at // 4).any()
    one.free()
    other.free()


def test_nan_stays_nan(cpu: Device) -> None:
    count = MIN_BF16
    mine = np.zeros(count, np.float32)
    mine.view(np.uint32)[:3] = 0x7F800001, 0xFFFFFFFF, 0x7FC00000
    one, other = filled(cpu, mine), filled(cpu, np.ones(count, np.float32))
    with connected() as (first, second), ThreadPoolExecutor() as threads:
        far = threads.submit(second.reduce, other, 0, count)
        first.reduce(one, 0, count)
        far.result(20)
    assert np.isnan(content(other, count)[:3]).all()
    assert (content(other, count)[3:] == 1).all()


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("count", [100, MIN_BF16])
@pytest.mark.parametrize("sent", [0, 40], ids=["nothing", "half"])
def test_peer_that_pauses_is_given_up(
    cpu: Device, rank: int, count: int, sent: int
) -> None:
    buffer = filled(cpu, np.ones(count, np.float32))
    with connected(timeout=0.3) as links:
        link, peer = links[rank], links[1 - rank].stream
        with ThreadPoolExecutor() as threads:
            running = threads.submit(link.reduce, buffer, 0, count)
            if rank == 0:
                peer.receive_exactly(memoryview(bytearray(40)))
            peer.send([bytes(sent)] if sent else [])
            with pytest.raises(TransportTimeout, match=r"0\.3 s; .* --comm-timeout"):
                running.result(20)


@pytest.mark.parametrize("rank", [0, 1])
def test_peer_that_leaves_breaks_the_link(cpu: Device, rank: int) -> None:
    buffer = filled(cpu, np.ones(100, np.float32))
    with connected() as links:
        links[1 - rank].stream.shut()
        with pytest.raises(ConnectionLost):
            links[rank].reduce(buffer, 0, 100)


def surplus(link: Link, peer: Stream, reduce: Callable[[], None]) -> None:
    """Send surplus bytes that the next reduction would receive."""
    if link.rank == 0:
        peer.send([bytes(500)])
        wait_until(lambda: link.stream.has_input)
    else:
        peer.send([bytes(404)])
    reduce()


@pytest.mark.parametrize("rank", [0, 1])
def test_peer_that_sends_more_is_noticed(cpu: Device, rank: int) -> None:
    buffer = filled(cpu, np.ones(100, np.float32))
    with connected() as links:
        link, peer = links[rank], links[1 - rank].stream
        with pytest.raises(RemoteProtocolError, match="more than the 100 elements"):
            surplus(link, peer, lambda: link.reduce(buffer, 0, 100))


def test_only_rank_1_takes_room_for_a_whole_tensor() -> None:
    with connected() as (first, second):
        assert first.scratch_bytes(1 << 20) == 0
        assert second.scratch_bytes(1 << 20) == 2 << 20
        assert second.scratch_bytes(1000) == 4000
