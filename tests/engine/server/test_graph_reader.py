from __future__ import annotations

import logging

import pytest

from ggrpc.bounds import Region
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.wire.connection import ServerConnection
from ggrpc.engine.wire.dialects import V2_0_0, V3_0_0
from ggrpc.engine.wire.graphs import write_graph
from ggrpc.engine.wire.messages import GraphCompute, SetTensor
from ggrpc.engine.wire.op_tables import ADDITIONS, op_table
from ggrpc.errors import GgrpcError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.paths import shared

REGIONS = {1: Region(0, 1 << 20)}
NE = (8, 1, 1, 1)


def vector(id: int, op: Op = Op.NONE, *src: int, **changes) -> Tensor:  # type: ignore[no-untyped-def]
    tensor = Tensor(
        id=id,
        type=GGMLType.F32,
        buffer=1,
        ne=NE,
        nb=contiguous_nb(GGMLType.F32, NE),
        op=op,
        src=src + (0,) * (10 - len(src)),
        data=32 * id,
    )
    return tensor._replace(**changes)


def sent(date: str, *tensors: Tensor) -> bytes:
    graph = Graph.of(tensors, [t.id for t in tensors if t.op])
    return write_graph(graph, op_table(date), frozenset())


# Each op comes after one that was added later, so its number differs between tables.
TELLING = (
    vector(1),
    vector(2, Op.RMS_NORM, 1),
    vector(3, Op.MUL_MAT, 1, 2, ne=(1, 1, 1, 1), nb=(4, 4, 4, 4)),
    vector(4, Op.SQR, 1),
    vector(5, Op.SOFT_MAX, 1),
    vector(6, Op.ARGSORT, 1, type=GGMLType.I32),
    vector(7, Op.UNARY, 1),
)


@pytest.mark.parametrize(
    "date", [d for d in V2_0_0.op_tables if op_table(d).op.to_wire[Op.ADD_ID] > 0]
)
def test_table_of_a_client_is_the_one_that_fits(date: str) -> None:
    reader = GraphReader(V2_0_0.tables)
    graph = reader.read(sent(date, *TELLING), REGIONS)
    assert [n.tensor.op for n in graph.nodes] == [t.op for t in TELLING if t.op]


def test_first_graph_decides_the_table() -> None:
    reader = GraphReader(V3_0_0.tables)
    reader.read(sent("2025-10-12", *TELLING), REGIONS)
    with pytest.raises(GgrpcError):
        reader.read(sent("2025-12-11", *TELLING), REGIONS)


def test_ambiguous_graph_uses_the_newest_table_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    payload = sent("2025-10-12", vector(1), vector(2, Op.SIN, 1))
    same = sent("2025-12-11", vector(1), vector(2, Op.SIN, 1))
    assert payload == same
    with caplog.at_level(logging.WARNING):
        GraphReader(V3_0_0.tables).read(payload, REGIONS)
    assert caplog.messages == []  # all tables agree
    shuffled = sent("2025-05-25b", vector(1), vector(2, Op.UNARY, 1, op_params=RELU))
    with caplog.at_level(logging.WARNING):
        graph = GraphReader(V2_0_0.tables).read(shuffled, REGIONS)
    assert "2025-05-25a but means different ops: using 2025-05-25b" in caplog.text
    assert graph.nodes[0].params.op == 6


RELU = (6).to_bytes(4, "little") + bytes(60)


def test_graph_that_fits_no_table_is_refused_by_the_newest() -> None:
    broken = vector(2, Op.MUL_MAT, 1)
    with pytest.raises(GgrpcError, match="source b is missing"):
        GraphReader(V3_0_0.tables).read(sent("2025-12-11", vector(1), broken), REGIONS)


@pytest.mark.parametrize(("version", "date"), [("2.0.0", "2025-08-14b")])
def test_table_of_a_captured_session_is_detected(version: str, date: str) -> None:
    data = sorted(shared(f"traces/{version}").glob("conn*.c2s.bin"))[-1].read_bytes()
    connection = ServerConnection(lambda size: V2_0_0)
    at = 0
    while True:
        request = connection.next_request()
        if isinstance(request, GraphCompute):
            break
        if isinstance(request, SetTensor):
            place = memoryview(bytearray(request.size))
            at += request.size - connection.take(place)
        elif request is None:
            space = connection.space()
            count = min(len(space), len(data) - at)
            space[:count] = data[at : at + count]
            connection.filled(count)
            at += count
    any_address = _AnyAddress()
    reader = GraphReader(V2_0_0.tables)
    graph = reader.read(request.graph, any_address)
    expected = GraphReader([op_table(date)]).read(request.graph, any_address)
    assert graph == expected
    assert len(V2_0_0.op_tables) < len(ADDITIONS)


class _AnyAddress(dict):  # type: ignore[type-arg]
    """Buffers that contain every address."""

    def get(self, handle: int, default: object = None) -> Region:
        return Region(0, 1 << 64)
