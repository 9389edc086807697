"""Checks that a server conforms to the protocol: each command, with edge cases.

The steps send only requests that llama.cpp's servers of every version survive, and
allocate a few MiB at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ggrpc.building import GraphBuilder
from ggrpc.engine.client.remote_device import RemoteBuffer, RemoteDevice
from ggrpc.engine.compute.computation import Computation
from ggrpc.engine.wire.commands import Command
from ggrpc.errors import OutOfMemory
from ggrpc.formats.numpy_values import contiguous_tensor
from ggrpc.ops import Node
from ggrpc.tensor import MAX_SRC, Tensor
from ggrpc.types import GGMLType

TOO_MUCH = 1 << 60
# The steps that the arithmetic depends on: it needs memory, inputs and results.
PREREQUISITES = frozenset({"ALLOC_BUFFER", "SET_TENSOR, GET_TENSOR"})
# Bytes: next to multiples that allocators round up to, and more than a socket buffers.
SIZES = (1, 63, 64, 4097, (1 << 20) + 1)


class Step(NamedTuple):
    """A check of one command.

    Attributes:
        name: the name of the command, and the variant.
        run: runs the check on a device; returns what is wrong, or None.
        needs: the command that the server's version must have.
        is_refused: whether a correct server refuses the request, and may log that.
    """

    name: str
    run: Callable[[RemoteDevice], str | None]
    needs: Command
    is_refused: bool = False


def _alignment(device: RemoteDevice) -> str | None:
    n = device.client.alignment(device.number)
    return None if n > 0 and n & (n - 1) == 0 else f"{n} is not a power of two"


def _max_size(device: RemoteDevice) -> str | None:
    size = device.client.max_size(device.number)
    return None if size > 0 else "the largest buffer has 0 bytes"


def _memory(device: RemoteDevice) -> str | None:
    free, total = device.memory()
    return None if free <= total > 0 else f"{free} of {total} bytes are free"


def _buffers(device: RemoteDevice) -> str | None:
    buffers = [device.allocate(size) for size in SIZES]
    for at, buffer in enumerate(buffers):
        if buffer.base % device.alignment:
            return f"a buffer's base {buffer.base:#x} is not aligned"
        for other in buffers[:at]:
            if _overlap(buffer, other):
                return "two buffers overlap"
    return _freed(*buffers)


def _too_much(device: RemoteDevice) -> str | None:
    try:
        device.allocate(TOO_MUCH)
    except OutOfMemory:
        return None
    return f"the server allocated a buffer of {TOO_MUCH} bytes"


def _transfers(device: RemoteDevice) -> str | None:
    for size in SIZES:
        buffer = device.allocate(size + 100)
        data = bytes(np.arange(size, dtype=np.uint32).astype(np.uint8))
        for offset in (0, 1, 100):
            buffer.put(offset, memoryview(data))
            with buffer.read(offset, size) as view:
                if view != data:
                    return f"{size} bytes at {offset} differ after writing and reading"
        _freed(buffer)
    return None


def _rows(device: RemoteDevice) -> str | None:
    """Rows with gaps, rows without, and one row."""
    buffer = device.allocate(1 << 16)
    tensor = _tensor(buffer, 0, 1 << 16)
    for size, stride, count in ((4096, 8192, 7), (3, 3, 1000), (70, 100, 1)):
        device.client.clear(buffer.handle, 255)
        rows = np.arange(count * size, dtype=np.uint32).astype(np.uint8)
        device.client.set_tensor_2d(tensor, rows.data, size, stride, offset=5)
        expected = np.full(1 << 16, 255, np.uint8)
        for at, row in enumerate(rows.reshape(count, size)):
            expected[5 + at * stride :][:size] = row
        with buffer.read(0, 1 << 16) as view:
            if view != expected:
                return f"{count} rows of {size} bytes were written to wrong places"
        back = np.empty_like(rows)
        device.client.get_tensor_2d(tensor, back.data, size, stride, offset=5)
        if not np.array_equal(back, rows):
            return f"{count} rows of {size} bytes differ after writing and reading"
    return _freed(buffer)


def _clear(device: RemoteDevice) -> str | None:
    buffer = device.allocate(4097)
    for value in (255, 0):
        device.client.clear(buffer.handle, value)
        with buffer.read(0, 4097) as view:
            if bytes(view) != bytes([value]) * 4097:
                return f"bytes are not {value} after a clear"
    return _freed(buffer)


def _memset(device: RemoteDevice) -> str | None:
    buffer = device.allocate(100)
    buffer.fill(3, 90, 7)
    with buffer.read(0, 100) as view:
        if bytes(view) != bytes(3) + b"\7" * 90 + bytes(7):
            return "MEMSET_TENSOR of bytes 3 to 92 changed too many bytes or too few"
    return _freed(buffer)


def _copy(device: RemoteDevice) -> str | None:
    one, two = device.allocate(4096), device.allocate(4096)
    one.put(0, memoryview(bytes(range(256)) * 16))
    source, target = _tensor(one, 64, 1000), _tensor(two, 128, 1000)
    if not device.client.copy_tensor(source, target):
        return "the server cannot copy within a device"
    with two.read(128, 1000) as view, one.read(64, 1000) as expected:
        if view != expected:
            return "the copy differs from its source"
    return _freed(one, two)


def _init(device: RemoteDevice) -> str | None:
    buffer = device.allocate(4096)
    device.client.init_tensor(_tensor(buffer, 0, 1000))
    with buffer.read(0, 1):  # its reply shows that INIT_TENSOR succeeded
        return _freed(buffer)


def _hash(device: RemoteDevice) -> str | None:
    buffer = device.allocate(4096)
    unknown = int(np.random.default_rng().integers(1 << 62))
    if device.client.set_tensor_hash(_tensor(buffer, 0, 4096), unknown):
        return "the server claims to have data for a random hash"
    return _freed(buffer)


def _alloc_size(device: RemoteDevice) -> str | None:
    for type in (GGMLType.F32, GGMLType.Q4_0):
        tensor = contiguous_tensor(type, (96, 3, 1, 1))
        device.client.alloc_size(tensor, device=device.number)  # checks the reply
    return None


def _compute(device: RemoteDevice) -> str | None:
    """GRAPH_COMPUTE, then GRAPH_RECOMPUTE on other data, if the version has it."""
    g = GraphBuilder()
    x = g.tensor("F32", 33)
    y = g.add(g.add(x, x), x)
    with Computation(g, devices=[device]) as computation:
        for value in range(3):
            values = np.full(33, value, np.float32)
            if not np.array_equal(computation.run({x: values})[y], 3 * values):
                return f"x + x + x is wrong for x = {value}"
    return None


def _two_graphs(device: RemoteDevice) -> str | None:
    """Two graphs in turn; with uids, each of them is sent only once."""
    g = GraphBuilder()
    x = g.tensor("F32", 33)
    y, z = g.add(x, x), g.mul(x, x)
    with (
        Computation(g, outputs=[y], devices=[device]) as double,
        Computation(g, outputs=[z], devices=[device]) as square,
    ):
        for value in range(3):
            values = np.full(33, value, np.float32)
            if not np.array_equal(double.run({x: values})[y], 2 * values):
                return f"x + x is wrong for x = {value}, after another graph"
            if not np.array_equal(square.run({x: values})[z], values * values):
                return f"x * x is wrong for x = {value}, after another graph"
    return None


def _comm(device: RemoteDevice) -> str | None:
    """Requests that must not link devices: COMM_INIT of 3 servers, and COMM_FREE."""
    if device.client.comm_init(0, 1, device=device.number, world=3):
        return "the server claims to link three servers"
    device.client.comm_free(device.number)
    device.synchronize()
    return None


def _supports(device: RemoteDevice) -> str | None:
    g = GraphBuilder()
    x = g.tensor("F32", 32)
    node = Node.of(g.add(x, x), [x, x] + [None] * (MAX_SRC - 2))
    return (
        None
        if device.supports(node)
        else "the server says that it does not support ADD"
    )


def _free(device: RemoteDevice) -> str | None:
    for _ in range(100):
        _freed(device.allocate(1 << 20))
    device.synchronize()
    return None


STEPS = (
    Step("GET_ALIGNMENT", _alignment, Command.GET_ALIGNMENT),
    Step("GET_MAX_SIZE", _max_size, Command.GET_MAX_SIZE),
    Step("GET_DEVICE_MEMORY", _memory, Command.GET_DEVICE_MEMORY),
    Step("ALLOC_BUFFER", _buffers, Command.ALLOC_BUFFER),
    Step("ALLOC_BUFFER, too large", _too_much, Command.ALLOC_BUFFER, True),
    Step("FREE_BUFFER", _free, Command.FREE_BUFFER),
    Step("SET_TENSOR, GET_TENSOR", _transfers, Command.SET_TENSOR),
    Step("SET_TENSOR_2D, GET_TENSOR_2D", _rows, Command.SET_TENSOR_2D),
    Step("BUFFER_CLEAR", _clear, Command.BUFFER_CLEAR),
    Step("MEMSET_TENSOR", _memset, Command.MEMSET_TENSOR),
    Step("COPY_TENSOR", _copy, Command.COPY_TENSOR),
    Step("INIT_TENSOR", _init, Command.INIT_TENSOR),
    Step("SET_TENSOR_HASH", _hash, Command.SET_TENSOR_HASH),
    Step("GET_ALLOC_SIZE", _alloc_size, Command.GET_ALLOC_SIZE),
    Step("GRAPH_COMPUTE", _compute, Command.GRAPH_COMPUTE),
    Step("GRAPH_RECOMPUTE, two graphs", _two_graphs, Command.GRAPH_RECOMPUTE),
    Step("COMM_INIT, COMM_FREE", _comm, Command.COMM_FREE, True),
    Step("GET_DEVICE_SUPPORTS_OP", _supports, Command.GET_DEVICE_SUPPORTS_OP),
)


def _overlap(a: RemoteBuffer, b: RemoteBuffer) -> bool:
    return a.base < b.base + b.size and b.base < a.base + a.size


def _tensor(buffer: RemoteBuffer, offset: int, size: int) -> Tensor:
    tensor = contiguous_tensor(GGMLType.I8, (size, 1, 1, 1))
    return tensor._replace(buffer=buffer.handle, data=buffer.base + offset)


def _freed(*buffers: RemoteBuffer) -> str | None:
    """Free buffers; returns None, as a step does that found nothing wrong."""
    for buffer in buffers:
        buffer.free()
    return None
