from __future__ import annotations

import shutil
import xml.etree.ElementTree
from pathlib import Path

import pytest

from ggrpc.engine.inspection import drawings
from ggrpc.engine.inspection.graphs import cost_of, differences, graphs_in
from ggrpc.errors import ConfigError, RecordingError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops.attention import FlashAttnParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.copies import get_rows
from tests.support.paths import shared

VERSIONS = ("2.0.0", "3.6.1", "4.0.0", "5.0.0", "7.0.0")


def trace(version: str) -> Path:
    """The client's bytes on the connection of a captured session that computes."""
    return max(
        shared(f"traces/{version}").glob("*.c2s.bin"), key=lambda p: p.stat().st_size
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_captured_session_has_its_graphs(version: str) -> None:
    with graphs_in(trace(version)) as graphs:
        assert sum(graph.runs for graph in graphs) == 7
        largest = max((graph.read().nodes for graph in graphs), key=len)
    assert {Op.MUL_MAT, Op.ROPE, Op.RMS_NORM} <= {node.tensor.op for node in largest}
    assert cost_of(largest).flops > 1e5


def test_folder_of_captured_sessions_has_the_graphs_of_all() -> None:
    file = trace("7.0.0")
    with graphs_in(file) as graphs, graphs_in(file.parent) as all_graphs:
        assert [graph.runs for graph in all_graphs] == [graph.runs for graph in graphs]
        assert all_graphs[0].connection == len(list(file.parent.glob("*.c2s.bin")))


def test_session_without_the_file_of_the_server_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "conn0.c2s.bin"
    shutil.copy(trace("7.0.0"), copy)
    with pytest.raises(RecordingError, match=r"conn0\.s2c\.bin: No such file"):
        graphs_in(copy).__enter__()


def mul_mat() -> Case:
    case = Case()
    a, b = case.leaf((256, 10), GGMLType.Q4_0), case.leaf((256, 3))
    case.node(Op.MUL_MAT, [a, b], (10, 3))
    return case


def attention() -> Case:
    case = Case()
    q, k, v = case.leaf((64, 5, 8)), case.leaf((64, 100, 2)), case.leaf((32, 100, 2))
    params = FlashAttnParams(1, 0, 0, 10)
    case.node(Op.FLASH_ATTN_EXT, [q, k, v], (32, 8, 5), params=params)
    return case


def test_costs_equal_a_calculation_by_hand() -> None:
    cost = cost_of(mul_mat().graph().nodes)
    assert cost.flops == 2 * 256 * 10 * 3
    assert cost.bytes == 10 * 256 // 32 * 18 + 4 * 256 * 3 + 4 * 10 * 3
    assert cost.intensity == cost.flops / cost.bytes
    assert cost_of(attention().graph().nodes).flops == 2 * 5 * 8 * 100 * (64 + 32)


def test_only_selected_rows_are_read() -> None:
    case = get_rows(GGMLType.Q8_0, (256, 1000))
    rows = case.tensors[1].nelements
    read = rows * 256 // 32 * 34 + 4 * rows
    assert cost_of(case.graph().nodes).bytes == read + 4 * 256 * rows


def test_views_cost_nothing() -> None:
    case = Case()
    case.view(case.leaf((8, 8)), (4, 4), (4, 32))
    assert cost_of(case.graph().nodes) == (0, 0)
    assert cost_of(case.graph().nodes).intensity is None


def chain(*ops: Op) -> Graph:
    case = Case()
    x = case.leaf((4, 4), name='the "input"')
    for op in ops:
        x = case.node(op, [x], x.ne, name=op.name.lower())
    return case.graph()


def test_graph_at_other_addresses_does_not_differ() -> None:
    first, second = chain(Op.SQR, Op.SQRT), chain(Op.SQR, Op.SQRT)
    moved = [
        t._replace(
            id=t.id + 100, data=t.data + 64, src=tuple(s and s + 100 for s in t.src)
        )
        for t in second.tensors.values()
    ]
    elsewhere = Graph.of(moved, [i + 100 for i in second.node_ids])
    assert list(differences(first, elsewhere)) == []


def test_differences_name_node_and_property() -> None:
    found = differences(chain(Op.SQR, Op.SQRT), chain(Op.SQR, Op.LOG, Op.SIN))
    assert list(found) == [
        (2, "op", "SQRT", "LOG"),
        (2, "name", "sqrt", "log"),
        (3, "node", "-", "SIN"),
    ]


def test_endpoint_in_the_name_of_a_copy_is_ignored() -> None:
    first, second = (
        named_input(f"RPC0[127.0.0.1:{port}]#inp_pos#0") for port in (50052, 50053)
    )
    assert list(differences(first, second)) == []
    (change,) = differences(first, named_input("RPC0[127.0.0.1:50052]#mask#0"))
    assert change == (1, "sources", "RPC0#inp_pos#0", "RPC0#mask#0")


def named_input(name: str) -> Graph:
    case = Case()
    case.node(Op.SQR, [case.leaf((4, 4), name=name)], (4, 4))
    return case.graph()


def test_target_of_a_copy_is_not_read() -> None:
    case = Case()
    a, b = case.leaf((8, 8)), case.leaf((8, 8), GGMLType.F16)
    case.node(Op.CPY, [a, b], (8, 8), GGMLType.F16)
    assert cost_of(case.graph().nodes).bytes == 8 * 8 * (4 + 2)


@pytest.mark.skipif(not shutil.which("dot"), reason="needs graphviz")
def test_graphviz_draws_every_tensor_of_a_session() -> None:
    with graphs_in(trace("7.0.0")) as graphs:
        graph = graphs[0].read()
    drawn = xml.etree.ElementTree.fromstring(drawings.svg(graph))
    kinds = [
        group.get("class") for group in drawn.iter("{http://www.w3.org/2000/svg}g")
    ]
    text = drawings.dot(graph)
    assert kinds.count("node") == text.count("label=")
    assert kinds.count("edge") == text.count("->")


def test_drawings_have_every_tensor_and_arrow() -> None:
    graph = chain(Op.SQR, Op.SQRT)
    text = drawings.dot(graph)
    assert text.startswith("digraph") and text.count("->") == 2
    assert text.count("label=") == 3 and 'the \\"input\\"' in text
    text = drawings.mermaid(graph)
    assert text.startswith("flowchart") and text.count("-->") == 2
    assert "#quot;input#quot;" in text


def test_svg_needs_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="--format dot or mermaid"):
        drawings.svg(chain(Op.SQR))
    script = tmp_path / "dot"
    script.write_text("#!/bin/sh\necho '<svg/>'\n")
    script.chmod(0o755)
    assert xml.etree.ElementTree.fromstring(drawings.svg(chain(Op.SQR))).tag == "svg"
    script.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="graphviz failed: no memory"):
        drawings.svg(chain(Op.SQR))
