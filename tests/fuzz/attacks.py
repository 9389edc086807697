"""Invalid requests, grouped by their kind of error.

An attack sends requests, and may stop when the server closes the connection. Whether or
not the server refuses them, they must not affect other clients.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ggrpc.engine.wire.commands import Command
from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.attacker import SIZE, Attacker
from tests.support.mutations import payload_of

Attack = Callable[[Attacker], object]
Named = Iterator[tuple[str, Attack]]

U32 = (0, 1, 2, 31, 33, 1 << 16, 1 << 24, 1 << 31, (1 << 32) - 1)
U64 = (*U32, 1 << 32, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - SIZE)
TENSOR = 296

# Bytes of each command's payload, without tensor data and the graph.
LENGTHS = {
    Command.ALLOC_BUFFER: 12,
    Command.GET_ALIGNMENT: 4,
    Command.GET_MAX_SIZE: 4,
    Command.BUFFER_GET_BASE: 8,
    Command.FREE_BUFFER: 8,
    Command.BUFFER_CLEAR: 9,
    Command.SET_TENSOR: TENSOR + 9,
    Command.SET_TENSOR_HASH: TENSOR + 16,
    Command.GET_TENSOR: TENSOR + 16,
    Command.COPY_TENSOR: 2 * TENSOR,
    Command.GRAPH_COMPUTE: 4,
    Command.GET_DEVICE_MEMORY: 4,
    Command.INIT_TENSOR: TENSOR,
    Command.GET_ALLOC_SIZE: 4 + 11 * TENSOR,
    Command.HELLO: 24,
    Command.DEVICE_COUNT: 0,
    Command.GRAPH_RECOMPUTE: 4,
    Command.MEMSET_TENSOR: TENSOR + 17,
}
OF_DEVICES = tuple(c for c in LENGTHS if LENGTHS[c] in (4, 12, 4 + 11 * TENSOR))
OF_TENSORS = tuple(c for c in LENGTHS if TENSOR <= LENGTHS[c] <= 2 * TENSOR)


def heads() -> Named:
    """Invalid commands and sizes."""
    for command in (18, 19, 20, 21, 64, 127, 128, 255):
        for size in (0, 4, 1 << 63):
            yield f"command {command} of {size}", _command(command, b"", size)
    for command, length in LENGTHS.items():
        for size in (length - 1, length + 1, 1 << 32, 1 << 63, (1 << 64) - 1):
            if size >= 0:
                name = f"{command.name} of {size}"
                yield name, _command(command, bytes(min(size, length)), size)
    yield "HELLO again", _command(Command.HELLO, bytes(24))


def cut_short() -> Named:
    """Requests that are incomplete when the connection closes."""
    for command, length in LENGTHS.items():
        for sent in (0, 1, length // 2):
            for half in (False, True):
                name = f"{command.name} cut at {sent}, half closed: {half}"
                yield name, partial(_cut, command, length + 64, sent, half)


def devices() -> Named:
    """Device numbers that do not exist."""
    for command in OF_DEVICES:
        for number in (1, 2, 255, 1 << 16, 1 << 31, (1 << 32) - 1):
            payload = struct.pack("<I", number).ljust(LENGTHS[command], b"\0")
            yield f"{command.name} on device {number}", _command(command, payload)


def buffers() -> Named:
    """Handles that do not exist and sizes that cannot be allocated."""
    for size in (0, 1, 1 << 50, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 4096):
        request = struct.pack("<IQ", 0, size)
        yield f"{size} bytes", _command(Command.ALLOC_BUFFER, request)
    for handle in U64:
        for command in (Command.BUFFER_GET_BASE, Command.FREE_BUFFER):
            name = f"{command.name} {handle:#x}"
            yield name, _command(command, struct.pack("<Q", handle))
        request = struct.pack("<QB", handle, 7)
        yield f"BUFFER_CLEAR {handle:#x}", _command(Command.BUFFER_CLEAR, request)
    yield "freed twice", _freed_twice
    yield "read after it was freed", _read_after_free
    yield "a thousand empty ones", _many_empty


def tensors() -> Named:
    """Invalid values of each tensor field, in each command with a tensor."""
    fields: dict[str, tuple[Any, ...]] = {
        "type": (4, 5, 31, 36, 38, 43, 44, 255, 1 << 31, (1 << 32) - 1),
        "ne": tuple((n, 1, 1, 1) for n in U32) + tuple((n,) * 4 for n in U32),
        "nb": tuple((n,) * 4 for n in U32),
        "data": U64,
        "buffer": U64,
        "op": (100, 101, 1 << 31, (1 << 32) - 1),
    }
    for command in OF_TENSORS:
        for field, values in fields.items():
            for value in values:
                name = f"{command.name}, {field} {value}"
                yield name, partial(_of_tensor, command, {field: value})
    for type in GGMLType:
        change = {"type": type, "ne": (7, 3, 1, 1)}
        name = f"GET_ALLOC_SIZE of {type.name}"
        yield name, partial(_of_tensor, Command.GET_ALLOC_SIZE, change)


def ranges() -> Named:
    """Offsets and sizes outside the tensor, the buffer, and 64 bits."""
    for command in (Command.GET_TENSOR, Command.MEMSET_TENSOR):
        for offset in (*U64, SIZE - 1, SIZE, SIZE + 1):
            rest = -offset % (1 << 64)
            for size in (1, SIZE, SIZE + 1, 1 << 63, (1 << 64) - 1, rest):
                name = f"{command.name} {size} at {offset}"
                yield name, partial(_range, command, offset, size)
    for offset in (*U64, SIZE - 1, SIZE, SIZE + 1):
        for command in (Command.SET_TENSOR, Command.SET_TENSOR_HASH):
            name = f"{command.name} at {offset}"
            yield name, partial(_range, command, offset, 64)
    for source in (0, 1, SIZE - 1, SIZE, 1 << 40):
        for target in (0, 1, SIZE - 64, SIZE - 1, SIZE, 1 << 40):
            yield f"COPY {source} to {target}", partial(_copy, source, target)


def graphs() -> Named:
    """Invalid counts, ids and links of graphs."""
    for nodes in (0, 1, 2, 1 << 16, 1 << 28, (1 << 32) - 1):
        for tensors in (0, 1, 2, 1 << 16, 1 << 28, (1 << 32) - 1):
            raw = struct.pack("<IQI", nodes, 1, tensors) + bytes(TENSOR)
            yield f"{nodes} nodes, {tensors} tensors", partial(_compute, raw)
    for ids in ([], [0], [9], [1], [2, 2], [1, 2], [3, 2], [2, 3], [2**64 - 1]):
        yield f"nodes {ids}", partial(_links, ids, {})
    for field in ("src", "view_src", "id"):
        for value in (0, 1, 2, 3, 9, (1 << 64) - 1):
            yield f"{field} {value}", partial(_links, [2, 3], {field: value})
    for op in (*range(93, 97), 101, 102, 1 << 31, (1 << 32) - 1):
        yield f"op {op}", partial(_links, [2, 3], {"op": op})
    for count in (1, 2, 3000):
        yield f"{count} views in a circle", partial(_circle, count)
    for device in (1, (1 << 32) - 1):
        request = struct.pack("<I", device)
        yield f"again on {device}", _command(Command.GRAPH_RECOMPUTE, request)
    yield (
        "again, without a first time",
        _command(Command.GRAPH_RECOMPUTE, struct.pack("<I", 0)),
    )
    yield "again, after its buffer was freed", _recompute_after_free


FAMILIES = (heads, cut_short, devices, buffers, tensors, ranges, graphs)


def _command(command: int, payload: bytes, size: int | None = None) -> Attack:
    return lambda attacker: attacker.command(command, payload, size)


def _cut(command: int, size: int, sent: int, half: bool, attacker: Attacker) -> None:
    attacker.command(command, bytes(sent), size)
    if half:
        attacker.socket.shutdown(socket.SHUT_WR)
    else:
        attacker.close()


def _freed_twice(attacker: Attacker) -> None:
    for _ in range(2):
        attacker.command(Command.FREE_BUFFER, struct.pack("<Q", attacker.handle))


def _read_after_free(attacker: Attacker) -> None:
    attacker.command(Command.FREE_BUFFER, struct.pack("<Q", attacker.handle))
    _range(Command.GET_TENSOR, 0, 64, attacker)


def _many_empty(attacker: Attacker) -> None:
    for _ in range(1000):
        attacker.ask(Command.ALLOC_BUFFER, "<IQ", 0, 0, reply="<QQ")


def _of_tensor(command: int, change: dict[str, Any], attacker: Attacker) -> None:
    raw = attacker.tensor(**change).tobytes()
    if command == Command.GET_ALLOC_SIZE:
        raw = bytes(4) + raw
    attacker.command(command, raw.ljust(LENGTHS[Command(command)], b"\0"))


def _range(command: int, offset: int, size: int, attacker: Attacker) -> None:
    raw = attacker.tensor().tobytes()
    if command == Command.SET_TENSOR:
        attacker.command(command, raw + struct.pack("<BQ", 0, offset) + bytes(size))
        return
    raw += struct.pack("<QQ", offset, size)
    attacker.command(command, raw.ljust(LENGTHS[Command(command)], b"\1"))


def _copy(source: int, target: int, attacker: Attacker) -> None:
    records = [
        attacker.tensor(ne=(128, 1, 1, 1), data=attacker.handle + at)
        for at in (source, target)
    ]
    attacker.command(Command.COPY_TENSOR, b"".join(r.tobytes() for r in records))


def _compute(graph: bytes, attacker: Attacker) -> None:
    attacker.compute(graph)


def _links(ids: list[int], change: dict[str, Any], attacker: Attacker) -> None:
    """SQR of SQR of a leaf, with changes to the first SQR."""
    attacker.compute(payload_of(ids, sqr_of_sqr(attacker, change)))


def _circle(count: int, attacker: Attacker) -> None:
    """A circle of views."""
    records = np.array([attacker.tensor(op=Op.VIEW, flags=16)] * count)
    records["id"] = np.arange(count) + 1
    records["view_src"] = records["src"][:, 0] = np.roll(records["id"], -1)
    attacker.compute(payload_of(records["id"].tolist(), records))


def sqr_of_sqr(attacker: Attacker, change: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The tensors of `_links`, with the ids 1, 2 and 3."""
    values: list[dict[str, Any]] = [
        {"id": 1},
        {"id": 2, "op": Op.SQR, "src": (1,) + (0,) * 9, **change},
        {"id": 3, "op": Op.SQR, "src": (2,) + (0,) * 9},
    ]
    at = attacker.handle
    records = [
        attacker.tensor(GGMLType.F32, (16, 1, 1, 1), data=at + 64 * i, flags=16, **v)
        for i, v in enumerate(values)
    ]
    return np.array(records)


def _recompute_after_free(attacker: Attacker) -> None:
    attacker.compute(payload_of([2, 3], sqr_of_sqr(attacker, {})))
    attacker.command(Command.FREE_BUFFER, struct.pack("<Q", attacker.handle))
    attacker.command(Command.GRAPH_RECOMPUTE, struct.pack("<I", 0))
