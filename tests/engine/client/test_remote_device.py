from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ggrpc.building import GraphBuilder
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.engine.client.client import connect
from ggrpc.engine.client.remote_device import RemoteBuffer, RemoteDevice, RemoteServer
from ggrpc.engine.compute.computation import Computation
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.engine.wire.dialects import V2_0_0, V3_6_1, V7_0_0, V7_0_1, V8_0_0
from ggrpc.engine.wire.op_tables import op_table
from ggrpc.errors import (
    ConnectionLost,
    DeviceError,
    LocalProtocolError,
    OutOfMemory,
    RefusedError,
    UnsupportedOp,
)
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op, UnaryOp
from ggrpc.ops.activations import UnaryParams
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, run_case
from tests.support.clients import squares
from tests.support.paths import NEWEST
from tests.support.processes import native_serving
from tests.support.servers import running

DIALECTS = {str(d.version): d for d in (V2_0_0, V3_6_1, V7_0_0, V7_0_1, V8_0_0)}
# Releases of the native server.
NATIVE = (NEWEST, "0.3.36", "0.3.35", "0.3.24", "0.3.17", "0.3.16")
# The op table of versions that had several.
OP_TABLES = {"0.3.16": "2025-08-14b", "2.0.0": "2025-10-12"}


@contextlib.contextmanager
def server_of(kind: str) -> Iterator[RemoteServer]:
    """A session with ggrpc's server of a given version, or with a native server."""
    with contextlib.ExitStack() as stack:
        if kind in NATIVE:
            endpoint = stack.enter_context(native_serving(kind))
        else:
            endpoint = stack.enter_context(running(dialects=(DIALECTS[kind],)))
        table = op_table(OP_TABLES[kind]) if kind in OP_TABLES else None
        client = connect(endpoint, timeout=60, op_table=table)
        yield stack.enter_context(RemoteServer(client))


@pytest.fixture(params=[*DIALECTS, *NATIVE], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RemoteServer]:
    with server_of(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def device(server: RemoteServer) -> RemoteDevice:
    return server.device()


@pytest.fixture
def ours() -> Iterator[RemoteDevice]:
    """A device of `ggrpc serve` for tests that end the session."""
    with server_of("7.0.0") as server:
        yield server.device()


def layer() -> Case:
    """A product of quantized weights and an activation, and a function of it."""
    case = Case()
    w, x = case.leaf((256, 24), GGMLType.Q8_0), case.leaf((256, 5))
    y = case.node(Op.MUL_MAT, [w, x], (24, 5), name="product")
    silu = UnaryParams(UnaryOp.SILU, 0, 0, 0, 0)
    case.node(Op.UNARY, [y], y.ne, params=silu, name="activation")
    return case


def test_graph_gives_what_the_cpu_gives(device: RemoteDevice) -> None:
    theirs = run_case(device, layer())
    expected = run_case(CpuDevice(threads=1), layer())
    for name, array in expected.items():
        assert nmse(theirs[name], array) < 5e-4, name


def test_buffers_are_zeros_at_first(device: RemoteDevice) -> None:
    buffer = device.allocate(1001)
    with buffer.read(0, 1001) as view:
        assert bytes(view) == bytes(1001)
    buffer.free()


def test_bytes_come_back_as_they_went(device: RemoteDevice) -> None:
    buffer = device.allocate(100)
    buffer.put(3, memoryview(b"abcdef"))
    with buffer.write(9, 2) as window:
        window[:] = b"gh"
    into = memoryview(bytearray(10))
    buffer.get(2, into)
    assert bytes(into) == b"\0abcdefgh\0"
    buffer.free()


def test_bytes_that_an_update_leaves_out_stay(device: RemoteDevice) -> None:
    buffer = device.allocate(8)
    buffer.put(0, memoryview(b"abcdefgh"))
    with buffer.update(2, 5) as window:
        window[1:3] = b"XY"
    into = memoryview(bytearray(8))
    buffer.get(0, into)
    assert bytes(into) == b"abcXYfgh"
    buffer.free()


@pytest.mark.parametrize(("offset", "size"), [(0, 64), (5, 7), (0, 0)])
def test_fill_sets_a_part(device: RemoteDevice, offset: int, size: int) -> None:
    buffer = device.allocate(64)
    buffer.fill(offset, size, 7)
    with buffer.read(0, 64) as view:
        expected = bytes(offset) + b"\7" * size + bytes(64 - offset - size)
        assert bytes(view) == expected
    buffer.free()


def test_copy_within_the_server_and_over_itself(device: RemoteDevice) -> None:
    one, two = device.allocate(64), device.allocate(64)
    one.put(0, memoryview(bytes(range(64))))
    two.copy(10, one, 20, 30)
    two.copy(12, two, 10, 20)
    with two.read(0, 64) as view:
        assert bytes(view)[10:12] == bytes([20, 21])
        assert bytes(view)[12:32] == bytes(range(20, 40))
    one.free()
    two.free()


def test_copy_from_this_machine(device: RemoteDevice) -> None:
    near, far = CpuDevice(threads=1).allocate(16), device.allocate(16)
    near.fill(0, 16, 9)
    far.copy(4, near, 0, 8)
    near.copy(0, far, 0, 16)
    assert bytes(near.memory) == bytes(4) + b"\t" * 8 + bytes(4)
    near.free()
    far.free()


def test_graph_runs_again_after_any_buffer_was_freed(device: RemoteDevice) -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 8)
    y = g.add(x, x)
    with Computation(g, devices=[device]) as computation:
        for value in range(3):
            array = np.full(8, value, np.float32)
            assert np.array_equal(computation.run({x: array})[y], 2 * array)
            device.allocate(64).free()


def test_threads_share_a_session(device: RemoteDevice) -> None:
    def work(seed: int) -> None:
        g = GraphBuilder()
        x = g.tensor("F32", 8)
        y = g.scale(x, scale=seed)
        with Computation(g, devices=[device]) as computation:
            for value in range(20):
                array = np.full(8, value, np.float32)
                assert np.array_equal(computation.run({x: array})[y], seed * array)
                device.allocate(64).free()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_freed_buffer_cannot_be_used(device: RemoteDevice) -> None:
    buffer = device.allocate(64)
    buffer.free()
    buffer.free()
    with pytest.raises(DeviceError, match="used after it was freed"):
        buffer.put(0, memoryview(b"x"))
    with pytest.raises(DeviceError, match="used after it was freed"):
        buffer.fill(0, 64, 1)
    device.synchronize()  # the session continues


def test_memory_and_limits_are_told(device: RemoteDevice) -> None:
    assert 0 < device.memory().free <= device.memory().total
    assert device.alignment in (16, 32, 64, 128)
    assert device.max_size > 1 << 20


def test_too_large_an_allocation_is_out_of_memory(device: RemoteDevice) -> None:
    with pytest.raises(OutOfMemory, match="cannot allocate"):
        device.allocate(1 << 50)


def test_unknown_device_is_refused(server: RemoteServer) -> None:
    with pytest.raises(RefusedError, match="has no device 7"):
        server.device(7)


def test_op_newer_than_the_server_is_not_supported() -> None:
    case = Case()
    x = case.leaf((4, 4))
    case.node(Op.CUMSUM, [x], x.ne)
    with server_of("2.0.0") as server:
        device = server.device()
        buffer = device.allocate(case.size)
        with pytest.raises(UnsupportedOp, match="does not compute CUMSUM"):
            device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})


def test_op_with_several_numbers_is_not_sent() -> None:
    """It would crash a native server of another build."""
    with running(dialects=(V2_0_0,)) as endpoint, connect(endpoint, timeout=60) as old:
        _, graph = squares(old)
        with pytest.raises(LocalProtocolError, match="choose one with --op-table"):
            old.compute(graph)
        assert old.memory().total


def test_program_runs_again_by_recompute(ours: RemoteDevice) -> None:
    case = layer()
    buffer = ours.allocate(case.size)
    program = ours.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    other = ours.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    images = []
    for each in (program, program, other, program):
        buffer.put(0, memoryview(case.image))
        each.run()
        ours.synchronize()
        with buffer.read(0, case.size) as view:
            images.append(bytes(view))
    assert len(set(images)) == 1
    assert not np.array_equal(images[0], case.image)


def test_program_of_a_freed_buffer_does_not_run(ours: RemoteDevice) -> None:
    case = layer()
    buffer = ours.allocate(case.size)
    program = ours.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.free()
    with pytest.raises(DeviceError, match="has been freed"):
        program.run()


def test_graph_that_the_server_drops_shows_at_the_next_answer(
    ours: RemoteDevice,
) -> None:
    buffer = ours.allocate(8)
    stranger = RemoteBuffer(ours.client, buffer.handle, 1 << 20)
    case = layer()
    ours.compile(case.graph(), {HANDLE: Placed(BASE, stranger)}).run()
    with pytest.raises(ConnectionLost, match="sent after GRAPH_COMPUTE"):
        ours.synchronize()


def test_threads_share_a_server(ours: RemoteDevice) -> None:
    wrong: list[int] = []

    def work(value: int) -> None:
        buffer = ours.allocate(4096)
        for _ in range(20):
            buffer.fill(0, 4096, value)
            with buffer.read(0, 4096) as view:
                if bytes(view) != bytes([value]) * 4096:
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_type_newer_than_the_server_is_named() -> None:
    with server_of("3.6.1") as server:
        with pytest.raises(DeviceError, match=r"protocol 3\.6\.1, .* older than Q1_0"):
            DeviceTensor(server.device(), "Q1_0", 512)
        server.device().synchronize()
