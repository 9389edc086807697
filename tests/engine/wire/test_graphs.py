from __future__ import annotations

import struct

import pytest

from ggrpc.engine.wire.dialects import V7_0_0
from ggrpc.engine.wire.graphs import read_graph, write_graph
from ggrpc.errors import GraphError, RemoteProtocolError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import FLAG_COMPUTE, Tensor
from ggrpc.types import GGMLType

TABLE = V7_0_0.table
LEAF = Tensor(id=1, type=GGMLType.F32, buffer=1, ne=(4, 1, 1, 1), nb=(4, 16, 16, 16))
NODE = LEAF._replace(id=2, op=Op.SQR, src=(1,) + (0,) * 9)
GRAPH = Graph.of([LEAF, NODE], [2])


def sent(graph: Graph) -> bytes:
    return write_graph(graph, TABLE, frozenset())


def test_graph_survives_the_wire() -> None:
    payload = sent(GRAPH)
    assert len(payload) == 4 + 8 + 4 + 2 * 296
    assert read_graph(payload, TABLE) == GRAPH


def test_empty_graph_survives_the_wire() -> None:
    assert read_graph(sent(Graph.of([], [])), TABLE).nodes == ()


@pytest.mark.parametrize("cut", [1, 2, 8, 100, 607])
def test_graph_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(RemoteProtocolError):
        read_graph(sent(GRAPH)[:-cut], TABLE)


def test_graph_with_bytes_left_over_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="its own counts"):
        read_graph(sent(GRAPH) + b"x", TABLE)


def test_counts_beyond_the_payload_are_refused_at_once() -> None:
    with pytest.raises(RemoteProtocolError, match="truncated"):
        read_graph(struct.pack("<II", 2**32 - 1, 0), TABLE)


def test_node_that_is_no_tensor_is_refused() -> None:
    payload = bytearray(sent(GRAPH))
    payload[4] = 77
    with pytest.raises(GraphError, match="node 0x4d"):
        read_graph(bytes(payload), TABLE)


def test_graph_of_5000_tensors_decodes_in_one_go() -> None:
    tensors = [LEAF] + [NODE._replace(id=i) for i in range(2, 5001)]
    graph = Graph.of(tensors, range(2, 5001))
    assert read_graph(sent(graph), TABLE) == graph


def test_nodes_are_flagged_where_the_version_has_the_flag() -> None:
    flagged = read_graph(write_graph(GRAPH, TABLE, frozenset({"compute"})), TABLE)
    assert [t.flags for t in flagged.tensors.values()] == [0, FLAG_COMPUTE]
    again = write_graph(flagged, TABLE, frozenset({"compute"}))
    assert read_graph(again, TABLE) == flagged
