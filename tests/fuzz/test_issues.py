"""Attacks from public issues of llama.cpp's server, on ggrpc's server.

The numbers in the names are those of github.com/ggml-org/llama.cpp/issues.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ggrpc.engine.wire.commands import Command
from ggrpc.op import Op
from ggrpc.ops.contract import contract_of
from ggrpc.ops.convolution import ConvTranspose1dParams
from ggrpc.ops.patches import PatchParams
from ggrpc.types import GGMLType
from tests.support.attacker import Attacker, Bystander, ClosedError, attacking
from tests.support.clients import HELLO
from tests.support.drivers import usable_device
from tests.support.mutations import payload_of
from tests.support.processes import Served, serving

F32, I32, I64 = GGMLType.F32, GGMLType.I32, GGMLType.I64


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--threads", "1") as served:
        yield served


@pytest.fixture
def bystander(served: Served) -> Iterator[Bystander]:
    bystander = Bystander(served.endpoint)
    yield bystander
    bystander.check()
    bystander.close()


@pytest.fixture
def attacker(served: Served, bystander: Bystander) -> Iterator[Attacker]:
    with attacking(served.endpoint) as attacker:
        yield attacker
        bystander.check(attacker)


def node(
    attacker: Attacker,
    op: int,
    sources: Sequence[tuple[GGMLType, tuple[int, ...]]],
    result: tuple[GGMLType, tuple[int, ...]],
    params: bytes = b"",
) -> bytes:
    """The graph of one node; its sources and result are 4096 bytes apart."""
    records = [
        attacker.tensor(type, ne, id=at + 1, data=attacker.handle + 4096 * at)
        for at, (type, ne) in enumerate((*sources, result))
    ]
    ids = [*range(1, len(records))]
    records[-1]["op"], records[-1]["flags"] = op, 16
    records[-1]["src"][: len(ids)] = ids
    records[-1]["op_params"] = np.frombuffer(params.ljust(64, b"\0"), "<i4")
    return payload_of([len(records)], np.array(records))


def assert_refused(attacker: Attacker, served: Served, *words: str) -> None:
    """Check that the session has ended, and that a log line contains these words."""
    attacker.settle()
    peer = "{}:{}".format(*attacker.socket.getsockname()[:2])
    served.wait_for_line(f"{peer}: session ended")
    (line,) = [line for line in served.lines if f"WARNING {peer} " in line]
    for word in words:
        assert word in line


def test_13067_invalid_type_of_a_tensor_is_refused(
    attacker: Attacker, served: Served
) -> None:
    raw = attacker.tensor(type=1234).tobytes()
    attacker.command(Command.SET_TENSOR, raw + struct.pack("<BQ", 0, 0) + b"data")
    assert_refused(attacker, served, "there is no type 1234", "SET_TENSOR")


@pytest.mark.parametrize("type", [4, 5, 31, 36, 38])
def test_13067_type_that_was_removed_is_refused(
    type: int, attacker: Attacker, served: Served
) -> None:
    graph = node(attacker, Op.DUP, [(F32, (4,))], (F32, (4,)))
    raw = bytearray(graph)
    raw[4 + 8 + 4 + 8 :][:4] = struct.pack("<I", type)
    records = np.frombuffer(graph[-2 * 296 :], attacker.tensor().dtype).copy()
    records[0]["type"] = type
    attacker.compute(payload_of([2], records))
    assert_refused(attacker, served, f"there is no type {type} ", "GRAPH_COMPUTE")


@pytest.mark.parametrize("row", [8, 1 << 30, -1, -(1 << 31)])
def test_26825_get_rows_checks_its_indices(
    row: int, attacker: Attacker, served: Served
) -> None:
    attacker.write(struct.pack("<4i", 0, 7, row, 0), 4096)
    sources = [(F32, (16, 8)), (I32, (4,))]
    attacker.compute(node(attacker, Op.GET_ROWS, sources, (F32, (16, 4))))
    words = f"there is no row {row} of 8", "GET_ROWS", "GRAPH_COMPUTE"
    assert_refused(attacker, served, *words)


@pytest.mark.parametrize("row", [8, 1 << 40, -1, -(1 << 63)])
def test_26912_set_rows_checks_its_indices(
    row: int, attacker: Attacker, served: Served
) -> None:
    attacker.write(struct.pack("<4q", 0, 7, row, 0), 4096)
    sources = [(F32, (16, 4)), (I64, (4,))]
    attacker.compute(node(attacker, Op.SET_ROWS, sources, (F32, (16, 8))))
    assert_refused(attacker, served, f"there is no row {row} of 8", "SET_ROWS")


@pytest.fixture(scope="module")
def opencl() -> Iterator[Served]:
    with serving("--threads", "1", device=usable_device().name) as served:
        yield served


@pytest.mark.parametrize("row", [8, (1 << 31) - 1, -1, -(1 << 31)])
@pytest.mark.parametrize("op", [Op.GET_ROWS, Op.SET_ROWS])
def test_26825_26912_opencl_checks_row_indices(
    op: Op, row: int, opencl: Served
) -> None:
    bystander = Bystander(opencl.endpoint)
    with contextlib.closing(bystander), attacking(opencl.endpoint) as attacker:
        attacker.write(struct.pack("<4i", 0, 7, row, 0), 4096)
        shapes = ((16, 8), (16, 4)) if op is Op.GET_ROWS else ((16, 4), (16, 8))
        sources = [(F32, shapes[0]), (I32, (4,))]
        attacker.compute(node(attacker, op, sources, (F32, shapes[1])))
        assert_refused(attacker, opencl, op.name, f"index {row} is out of range")
        bystander.check(attacker)


@pytest.mark.parametrize("op", [Op.ACC, Op.SET])
@pytest.mark.parametrize(
    "params",
    [
        PatchParams(-16, 64, 64, 0, 0),
        PatchParams(16, -(1 << 31), 64, 0, 1),
        PatchParams(16, 64, 64, -4, 0),
        PatchParams(16, 64, 64, 8, 0),
        PatchParams((1 << 31) - 1, 64, 64, 0, 0),
    ],
)
def test_25764_acc_and_set_stay_inside(
    op: Op, params: PatchParams, attacker: Attacker, served: Served
) -> None:
    sources = [(F32, (4, 4)), (F32, (4, 4))]
    raw = contract_of(op).pack_params(params)
    attacker.compute(node(attacker, op, sources, (F32, (4, 4)), raw))
    words = f"the part at offset {params.offset} with", "must lie inside a", op.name
    assert_refused(attacker, served, *words)


@pytest.mark.parametrize(
    "op", [Op.MAP_CUSTOM1, Op.MAP_CUSTOM2, Op.MAP_CUSTOM3, Op.CUSTOM]
)
def test_25289_pointers_of_custom_ops_are_never_called(
    op: Op, attacker: Attacker, served: Served
) -> None:
    pointers = struct.pack("<QQQ", 0xDEAD, 1, 0xBEEF)
    attacker.compute(node(attacker, op, [(F32, (4,))], (F32, (4,)), pointers))
    words = f"{op.name} '", f"ggrpc does not support the op {op.name}"
    assert_refused(attacker, served, *words)


@pytest.mark.parametrize("said", [b"", HELLO[:1], HELLO[:20]])
def test_28908_silent_first_client_blocks_no_other(
    said: bytes, served: Served, bystander: Bystander
) -> None:
    with attacking(served.endpoint, greet=False) as silent:
        silent.send(said)
        bystander.check()


def test_7293_allocation_beyond_memory_gets_a_reply(attacker: Attacker) -> None:
    for size in (1 << 50, 1 << 63, (1 << 64) - 1):
        ask = (Command.ALLOC_BUFFER, "<IQ", 0, size)
        assert attacker.ask(*ask, reply="<QQ") == (0, 0)
    handle, size = attacker.ask(Command.ALLOC_BUFFER, "<IQ", 0, 64, reply="<QQ")
    assert handle and size == 64


def test_7293_graph_beyond_memory_ends_its_session(
    attacker: Attacker, served: Served
) -> None:
    """The memory for the computation grows with the square of the sources' size."""
    op, n = Op.CONV_TRANSPOSE_1D, 1 << 16
    raw = contract_of(op).pack_params(ConvTranspose1dParams(1, 0, 1))
    handle, _ = attacker.ask(Command.ALLOC_BUFFER, "<IQ", 0, 1 << 20, reply="<QQ")
    attacker.handle = handle
    vectors = [
        attacker.tensor(F32, (length,), id=at + 1, data=handle + at * 4 * n)
        for at, length in enumerate((n, n, 2 * n - 1))
    ]
    vectors[2]["op"], vectors[2]["src"][:2] = op, (1, 2)
    vectors[2]["op_params"] = np.frombuffer(raw, "<i4")
    attacker.compute(payload_of([3], np.array(vectors)))
    assert_refused(attacker, served, "a graph needs 16.0 GiB", "GRAPH_COMPUTE")


def test_buffers_of_a_lost_client_are_freed(served: Served) -> None:
    process, size = psutil.Process(served.process.pid), 64 << 20
    with contextlib.closing(Bystander(served.endpoint)) as bystander:
        before = process.memory_info().rss
        for _ in range(4):
            with attacking(served.endpoint) as attacker:
                (handle, _) = attacker.ask(
                    Command.ALLOC_BUFFER, "<IQ", 0, size, reply="<QQ"
                )
                attacker.command(Command.BUFFER_CLEAR, struct.pack("<QB", handle, 0x55))
                attacker.settle()
        bystander.check()
        served.wait_for_line("freed")
        assert process.memory_info().rss < before + size


def test_addresses_sent_to_clients_are_not_real(
    attacker: Attacker, served: Served
) -> None:
    (base,) = attacker.ask(Command.BUFFER_GET_BASE, "<Q", attacker.handle, reply="<Q")
    ranges = Path(f"/proc/{served.process.pid}/maps").read_text().splitlines()
    for line in ranges:
        start, stop = (int(end, 16) for end in line.split()[0].split("-"))
        assert not start <= base < stop
    with attacking(served.endpoint) as other:
        assert other.handle != attacker.handle  # random: nothing to learn


def test_handle_of_another_session_is_refused(
    attacker: Attacker, served: Served
) -> None:
    with attacking(served.endpoint) as other:
        second, _ = other.ask(Command.ALLOC_BUFFER, "<IQ", 0, 64, reply="<QQ")
        attacker.command(Command.BUFFER_GET_BASE, struct.pack("<Q", second))
        assert_refused(
            attacker, served, f"buffer {second:#x} does not belong to this session"
        )


def test_new_buffer_has_no_data_of_another_client(served: Served) -> None:
    marker, size = b"SECRET of another client", 1 << 16
    with attacking(served.endpoint) as first:
        first.write(marker * (size // len(marker)))
        first.settle()
    with attacking(served.endpoint) as second:
        raw: Any = second.tensor(ne=(size, 1, 1, 1)).tobytes()
        second.command(Command.GET_TENSOR, raw + struct.pack("<QQ", 0, size))
        assert second.reply() == bytes(size)


def test_refused_client_gets_no_reply(attacker: Attacker) -> None:
    attacker.received.clear()
    attacker.command(99, b"")
    with pytest.raises(ClosedError):
        attacker.reply()
    assert not attacker.received
