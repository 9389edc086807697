from __future__ import annotations

import pytest

from ggrpc.bounds import Region
from ggrpc.errors import GraphError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import FLAG_COMPUTE, Tensor, contiguous_nb
from ggrpc.types import GGMLType

REGIONS = {1: Region(1000, 64)}
NE = (4, 1, 1, 1)


def leaf(id: int, **changes) -> Tensor:  # type: ignore[no-untyped-def]
    tensor = Tensor(
        id=id,
        type=GGMLType.F32,
        buffer=1,
        ne=NE,
        nb=contiguous_nb(GGMLType.F32, NE),
        data=1000,
        raw_name=f"t{id}".encode(),
    )
    return tensor._replace(**changes)


def sqr(id: int, source: int, **changes) -> Tensor:  # type: ignore[no-untyped-def]
    src = (source,) + (0,) * 9
    return leaf(id, **{"op": Op.SQR, "src": src, "data": 1016, **changes})


def refusal(*tensors: Tensor, nodes: tuple[int, ...] = (2,)) -> str:
    with pytest.raises(GraphError) as caught:
        Graph.of(tensors, nodes).validate(REGIONS)
    return str(caught.value)


def test_valid_graph_is_accepted() -> None:
    Graph.of([leaf(1), sqr(2, 1), sqr(3, 2)], [2, 3]).validate(REGIONS)


def test_nodes_come_with_sources_and_parameters() -> None:
    graph = Graph.of([leaf(1), sqr(2, 1)], [2])
    (node,) = graph.nodes
    assert node.tensor.id == 2
    assert node.source(0).id == 1
    assert node.src[1:] == (None,) * 9


def test_only_flagged_nodes_are_computed_if_there_are_any() -> None:
    flagged = sqr(3, 1, flags=FLAG_COMPUTE)
    graph = Graph.of([leaf(1), sqr(2, 1), flagged], [2, 3])
    assert [node.tensor.id for node in graph.nodes] == [3]


@pytest.mark.parametrize(
    ("tensors", "nodes", "message"),
    [
        ((), (0,), "node 0 of 1 has the id 0"),
        ((leaf(1), sqr(2, 1)), (2, 0), "node 1 of 2 has the id 0"),
        ((leaf(0),), (0,), "its id is 0"),
        ((), (5,), "node 0x5 is not among the graph's tensors"),
    ],
    ids=["alone", "last", "tensor", "missing"],
)
def test_node_that_is_no_tensor_is_refused(
    tensors: tuple[Tensor, ...], nodes: tuple[int, ...], message: str
) -> None:
    assert message in refusal(*tensors, nodes=nodes)


def test_graph_without_nodes_is_accepted() -> None:
    Graph.of([], []).validate(REGIONS)


def test_two_tensors_with_one_id_are_refused() -> None:
    assert "same id" in refusal(leaf(1), leaf(1), sqr(2, 1))


def test_missing_source_names_the_node() -> None:
    assert refusal(sqr(2, 7)) == "SQR 't2': source 0x7 is not among the tensors"


def test_node_before_its_source_is_refused() -> None:
    tensors = leaf(1), sqr(2, 3), sqr(3, 1)
    assert "computed before its source SQR 't3'" in refusal(*tensors, nodes=(2, 3))


def test_cast_is_a_copy_to_itself() -> None:
    """ggml_cast makes such nodes."""
    cast = sqr(2, 1, op=Op.CPY, src=(1, 2) + (0,) * 8)
    Graph.of([leaf(1), cast], [2]).validate(REGIONS)


def test_cycle_is_refused() -> None:
    assert "computed before its" in refusal(sqr(2, 3), sqr(3, 2), nodes=(2, 3))


def test_node_that_occurs_twice_is_refused() -> None:
    assert "occurs twice" in refusal(leaf(1), sqr(2, 1), nodes=(2, 2))


def test_id_of_zero_is_refused() -> None:
    assert "id is 0" in refusal(leaf(1), leaf(0), sqr(2, 1))


def test_sources_that_the_op_does_not_use_are_checked_too() -> None:
    beyond = (1,) + (0,) * 8 + (7,)
    assert "source 0x7 is not among" in refusal(leaf(1), sqr(2, 1, src=beyond))
    beyond = (1,) + (0,) * 8 + (1,)
    assert "must have at most 1 sources" in refusal(leaf(1), sqr(2, 1, src=beyond))


def test_result_over_itself_is_refused() -> None:
    assert "overlap" in refusal(leaf(1), sqr(2, 1, nb=(0, 0, 0, 0)))


def test_place_of_every_node_of_a_kind_is_checked() -> None:
    tensors = leaf(1), sqr(2, 1), sqr(3, 1), sqr(4, 1, data=1056)
    assert "SQR 't4': bytes 56 to 72" in refusal(*tensors, nodes=(2, 3, 4))


def test_sources_of_every_node_of_a_kind_are_checked() -> None:
    other = leaf(5, ne=(2, 2, 1, 1), nb=(4, 8, 16, 16))
    tensors = leaf(1), other, sqr(2, 1), sqr(3, 5)
    assert "SQR 't3': the result's ne" in refusal(*tensors, nodes=(2, 3))


@pytest.mark.parametrize("data", [999, 1052, 2**63])
def test_tensor_outside_of_its_buffer_is_refused(data: int) -> None:
    assert "do not lie inside" in refusal(leaf(1, data=data), sqr(2, 1))
    assert "do not lie inside" in refusal(leaf(1), sqr(2, 1, data=data))


def test_unknown_buffer_is_refused() -> None:
    assert "does not belong to this session" in refusal(leaf(1, buffer=2), sqr(2, 1))


def test_empty_tensor_needs_no_buffer() -> None:
    ne = (4, 0, 1, 1)
    empty = {"buffer": 0, "ne": ne, "nb": contiguous_nb(GGMLType.F32, ne), "data": 0}
    Graph.of([leaf(1, **empty), sqr(2, 1, **empty)], [2]).validate(REGIONS)
    assert "buffer 0x0 does not" in refusal(leaf(1), sqr(2, 1, buffer=0))


def test_view_that_nothing_reads_needs_no_buffer() -> None:
    nowhere = {"op": Op.VIEW, "src": (1,) + (0,) * 9, "buffer": 0, "data": 0}
    view = leaf(2, **nowhere)
    Graph.of([leaf(1, buffer=0), view], [2]).validate(REGIONS)
    assert "buffer 0x0 does not" in refusal(leaf(1), view, sqr(3, 2), nodes=(2, 3))


def test_row_of_partial_blocks_is_refused() -> None:
    quantized = leaf(1, type=GGMLType.Q8_0, ne=(16, 1, 1, 1))
    node = sqr(2, 1, op=Op.CPY, src=(1, 3) + (0,) * 8, ne=(16, 1, 1, 1), data=1000)
    message = refusal(quantized, leaf(3, ne=(16, 1, 1, 1)), node)
    assert "multiple of Q8_0's block size, 32" in message


def test_op_without_a_contract_is_refused_by_name() -> None:
    assert "MAP_CUSTOM1" in refusal(leaf(1), sqr(2, 1, op=Op.MAP_CUSTOM1))


def test_wrong_shape_names_node_op_and_rule() -> None:
    wrong = sqr(2, 1, ne=(2, 1, 1, 1), nb=(4, 8, 8, 8))
    assert refusal(leaf(1), wrong).startswith("SQR 't2': ")
