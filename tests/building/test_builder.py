from __future__ import annotations

import inspect
import re

import pytest

from ggrpc.building import GraphBuilder
from ggrpc.building.signatures import HANDWRITTEN, methods
from ggrpc.building.stub import stub
from ggrpc.errors import GraphError
from ggrpc.graph import Graph
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import CONTRACTS, Node
from ggrpc.ops.triangles import Triangle
from ggrpc.types import GGMLType

F32, F16, I32 = GGMLType.F32, GGMLType.F16, GGMLType.I32


@pytest.fixture
def g() -> GraphBuilder:
    return GraphBuilder()


def params(g: GraphBuilder, tensor) -> object:  # type: ignore[no-untyped-def]
    return Node.of(tensor, [None] * 10).params


@pytest.mark.parametrize("op", CONTRACTS, ids=lambda op: op.name)
def test_every_op_has_a_method(op: Op) -> None:
    members = {Op.UNARY: UnaryOp, Op.GLU: GluOp, Op.NONE: ()}.get(op, (op,))
    for member in members:  # type: ignore[attr-defined]
        method = getattr(GraphBuilder, member.name.lower())
        assert method.__doc__


def test_generated_and_handwritten_methods_do_not_overlap() -> None:
    names = [method.name for method in methods()]
    assert len(set(names)) == len(names)
    assert not {op.name.lower() for op in HANDWRITTEN} & set(names)
    assert not set(names) & set(vars(GraphBuilder))


def test_shape_and_type_follow_from_the_contract(g: GraphBuilder) -> None:
    w, x = g.tensor("Q4_0", 64, 5), g.tensor("F32", 64, 3, 2)
    y = g.mul_mat(w, x, name="y")
    assert (y.ne, y.type, y.name) == ((5, 3, 2, 1), F32, "y")
    assert g.get_rows(w, g.tensor("I32", 7)).ne == (64, 7, 1, 1)
    assert g.add(g.tensor("F16", 4), g.tensor("F32", 4)).type is F16
    assert g.argmax(x2 := g.tensor("F32", 4, 6)).type is I32
    assert g.pool_2d(x2, op=0, k0=2, k1=2, s0=2, s1=2).ne == (2, 3, 1, 1)


def test_parameters_have_default_values(g: GraphBuilder) -> None:
    x, pos = g.tensor("F32", 8, 2, 3), g.tensor("I32", 3)
    turned = params(g, g.rope(x, pos, n_dims=8))
    assert (turned.freq_base, turned.freq_scale, turned.beta_fast) == (10000, 1, 32)  # type: ignore[attr-defined]
    assert params(g, g.soft_max(x)) == (1, 0)
    assert params(g, g.silu(x))[0] == UnaryOp.SILU  # type: ignore[index]
    gated = g.swiglu_oai(x, alpha=1.5, limit=7)
    assert (params(g, gated), gated.ne) == ((GluOp.SWIGLU_OAI, 0, 1.5, 7), (4, 2, 3, 1))


def test_argument_names_avoid_keywords_and_sources() -> None:
    assert "as_" in inspect.signature(GraphBuilder.mul_mat_id).parameters
    assert {"k", "K"} <= set(inspect.signature(GraphBuilder.gated_delta_net).parameters)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda g: g.mul_mat(g.tensor(F32, 4, 2), g.tensor(F32, 5)),
            r"MUL_MAT 'mul_mat_3': a.ne\[0\] is 4, must equal b.ne\[0\], 5",
        ),
        (
            lambda g: g.sqr(g.tensor(I32, 4)),
            "source a is I32, must be one of F32, F16, BF16",
        ),
        (
            lambda g: g.conv_2d(*[g.tensor(F32, 2, 2)] * 2, s0=0),
            "a stride is 0, must be >= 1",
        ),
        (lambda g: g.tensor("Q8_0", 33), "not a multiple of Q8_0's block"),
        (lambda g: g.tensor(F32), "are not valid dimensions"),
        (lambda g: g.tensor(F32, 1, -1), "are not valid dimensions"),
        (lambda g: g.sqr(GraphBuilder().tensor(F32, 1)), "belongs to another graph"),
        (lambda g: g.view(g.tensor(F32, 4), [2], offset=12), "is not inside"),
        (lambda g: g.permute(g.tensor(F32, 4), 1, 1), "is not a permutation"),
        (lambda g: g.reshape(g.tensor(F32, 4, 2), 3), "as many elements"),
        (
            lambda g: g.reshape(g.transpose(g.tensor(F32, 4, 2)), 8),
            "is not contiguous",
        ),
        (lambda g: g.repeat(g.tensor(F32, 4), ne=[6]), "must repeat into"),
        (
            lambda g: g.top_k(g.tensor(F32, 4), 5),
            r"k is 5, must be at most a.ne\[0\], 4",
        ),
        (lambda g: g.acc(*[g.tensor(F32, 4)] * 2, 0, [4]), "nb must have 4 strides"),
        (
            lambda g: g.node(Op.REPEAT, [g.tensor(F32, 4)]),
            "REPEAT: give the dimensions",
        ),
        (
            lambda g: g.node(Op.SUM_ROWS, [x := g.tensor(F32, 4)], over=x),
            "another shape or type than tensor 'leaf_1'",
        ),
    ],
)
def test_broken_rule_is_an_error(g: GraphBuilder, build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(GraphError, match=message):
        build(g)


def test_view_of_a_view_has_the_same_root(g: GraphBuilder) -> None:
    x = g.tensor("F32", 8, 6, name="x")
    part = g.view(x, [4, 3], [64], offset=16)
    assert (part.ne, part.nb) == ((4, 3, 1, 1), (4, 64, 192, 192))
    turned = g.transpose(part)
    assert (turned.ne, turned.nb) == ((3, 4, 1, 1), (64, 4, 192, 192))
    inner = g.view(part, [2], offset=4)
    assert (inner.view_src, inner.view_offs) == (x.id, 20)
    assert g.reshape(x, 48).nb == (4, 192, 192, 192)
    assert g.permute(x, 2, 0, 1).ne == (6, 1, 8, 1)
    assert g.cont(turned).nb == (4, 12, 48, 48)


def test_results_of_inplace_ops_are_views(g: GraphBuilder) -> None:
    cache, rows = g.tensor("F16", 8, 6), g.tensor("F32", 8, 2)
    written = g.set_rows(cache, rows, g.tensor("I64", 2))
    assert (written.view_src, written.type, written.ne) == (cache.id, F16, cache.ne)
    assert g.scale(rows, scale=2, inplace=True).view_src == rows.id
    copied = g.cpy(rows, g.view(cache, [8, 2], offset=32))
    assert (copied.view_src, copied.view_offs) == (cache.id, 32)
    assert g.cast(rows, "F16").type is F16
    patched = g.acc(rows, g.tensor("F32", 3), 4, inplace=True)
    assert (patched.view_src, params(g, patched)) == (rows.id, (32, 64, 64, 4, 1))


def test_computed_shapes(g: GraphBuilder) -> None:
    image = g.tensor("F32", 3, 10, 7)
    windows = g.win_part(image, 4)
    assert windows.ne == (3, 4, 4, 6)
    assert g.win_unpart(windows, 10, 7, 4).ne == image.ne
    assert g.tri(g.tensor("F32", 3, 3), type=Triangle.LOWER).type is F32
    assert g.arange(0, 5, 0.5).ne == (10, 1, 1, 1)
    assert g.top_k(image, 2).ne == (2, 10, 7, 1)
    assert g.repeat(g.tensor("F32", 4), ne=[8, 2]).ne == (8, 2, 1, 1)
    assert g.im2col(g.tensor("F16", 3, 3, 7), g.tensor("F32", 3, 10, 7)).type is F16


def test_graph_has_nodes_in_order(g: GraphBuilder) -> None:
    a, b = g.tensor("F32", 4), g.tensor("F32", 4)
    c = g.add(a, b)
    d = g.mul(g.view(c, [2]), g.view(a, [2]))
    graph = g.graph()
    assert [node.tensor.op for node in graph.nodes] == [
        Op.ADD,
        Op.VIEW,
        Op.VIEW,
        Op.MUL,
    ]
    assert graph.tensors[d.id] is d


def test_optimizer_steps_overwrite_the_weights(g: GraphBuilder) -> None:
    w, grad = g.tensor("F32", 4), g.tensor("F32", 4)
    assert g.opt_step_sgd(w, grad, g.tensor("F32", 2)).view_src == w.id
    m, v, p = g.tensor("F32", 4), g.tensor("F32", 4), g.tensor("F32", 7)
    assert g.opt_step_adamw(w, grad, m, v, p).view_src == w.id
    assert g.set(w, g.tensor("F32", 2), 0).ne == w.ne


def test_stub_is_valid_python() -> None:
    text = stub()
    compile(text, "methods.pyi", "exec")
    assert re.search(r"def mul_mat_id\(\n\s+self,\n\s+as_: Tensor,", text)


def test_builder_continues_a_clients_graph(g: GraphBuilder) -> None:
    x = g.tensor("F32", 4, name="x")
    y = g.reshape(g.add(x, x), 2, 2)
    sent = g.graph()
    moved = Graph.of(
        [
            t._replace(
                id=t.id + 0x1000,
                src=tuple(id and id + 0x1000 for id in t.src),
                view_src=t.view_src and t.view_src + 0x1000,
                buffer=7,
                data=0x4000 * t.id,
            )
            for t in reversed(sent.tensors.values())
        ],
        [id + 0x1000 for id in sent.node_ids],
    )
    again = GraphBuilder.of(moved)
    assert again.graph() == sent
    assert again.sqr(again.tensors[-1]).ne == y.ne


def test_tensors_of_another_split_become_leaves(g: GraphBuilder) -> None:
    x = g.tensor("F32", 4)
    y = g.add(x, x)
    z = g.sqr(y)
    part = GraphBuilder.of(Graph.of(g.tensors, [z.id]))
    assert [tensor.op for tensor in part.tensors] == [Op.NONE, Op.NONE, Op.SQR]
    with pytest.raises(GraphError, match="the graph lacks tensor 0x2"):
        GraphBuilder.of(Graph.of([z], [z.id]))
