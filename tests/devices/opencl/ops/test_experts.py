"""MUL_MAT_ID on OpenCL against its definition in float64."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.kernel_table import CPU, is_supported
from ggrpc.devices.opencl.ops import matmul
from ggrpc.devices.opencl.ops.experts import MIN_GROUPED
from ggrpc.devices.opencl.ops.quantized import CHUNK, TYPES
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.types import FLOATS, GGMLType
from tests.devices.cpu.ops.test_experts import define as define_experts
from tests.support.case import Case, run_case
from tests.support.cases.experts import cases, mul_mat_id
from tests.support.reference import by_definition

Q4_0, Q8_0, F16 = GGMLType.Q4_0, GGMLType.Q8_0, GGMLType.F16

LIMIT = 5e-4  # the other operand is rounded to 8 bits
FLOAT_LIMIT = 1e-10


def define(node: Node, *values: Array) -> Array:
    if node.tensor.op is Op.MUL:
        return values[0] * values[1]
    return define_experts(node, *values)


def check(device: OpenClDevice, case: Case) -> None:
    results, right = run_case(device, case), by_definition(case, define)
    for node in case.graph().nodes:
        if node.tensor.op is Op.MUL_MAT_ID:
            assert is_supported(node, CPU)
            limit = LIMIT if node.source(0).type.is_quantized else FLOAT_LIMIT
            name = str(node.tensor.id)
            assert nmse(results[name], right[name]) < limit


@pytest.mark.parametrize("tokens", [1, 2, 19], ids=["one", "two", "many"])
@pytest.mark.parametrize("type", sorted(TYPES | FLOATS), ids=lambda type: type.name)
def test_experts_of_each_type_are_right(
    opencl: OpenClDevice, type: GGMLType, tokens: int
) -> None:
    check(opencl, mul_mat_id(type, tokens, k=512, n=37, n_expert=5))


def test_experts_of_other_layouts_are_right(opencl: OpenClDevice) -> None:
    for _, case in cases():
        node = case.graph().nodes[-1]
        if node.tensor.op is Op.MUL_MAT_ID and is_supported(node, CPU):
            check(opencl, case)


@pytest.mark.parametrize("tokens", [1, 30])
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("type", [Q4_0, F16], ids=lambda type: type.name)
def test_rows_for_each_slot_or_for_all_are_right(
    opencl: OpenClDevice, type: GGMLType, rows: int, tokens: int
) -> None:
    check(opencl, mul_mat_id(type, tokens, rows, k=96, n=19, n_expert=7))


@pytest.mark.parametrize(("type", "k"), [(Q8_0, CHUNK + 96), (F16, matmul.CHUNK + 17)])
def test_experts_of_more_columns_than_a_panel_has_are_right(
    opencl: OpenClDevice, type: GGMLType, k: int
) -> None:
    check(opencl, mul_mat_id(type, 11, k=k, n=33, n_expert=4))


@pytest.mark.parametrize("type", [Q4_0, F16], ids=lambda type: type.name)
def test_unchosen_experts_cost_nothing_and_one_chosen_by_all_is_right(
    opencl: OpenClDevice, type: GGMLType
) -> None:
    case = Case()
    a, b = case.leaf((64, 18, 9), type), case.leaf((64, 1, 21))
    ids = case.leaf(np.full((21, 1), 5), GGMLType.I32)
    assert ids.nelements // a.ne[2] >= MIN_GROUPED
    case.node(Op.MUL_MAT_ID, [a, b, ids], (18, 1, 21))
    check(opencl, case)


def test_many_experts_of_few_tokens_are_right(opencl: OpenClDevice) -> None:
    check(opencl, mul_mat_id(Q4_0, 5, k=32, n=16, n_expert=512))


def test_products_that_share_choices_and_rows_are_right(opencl: OpenClDevice) -> None:
    """The order of a model: gate and up, then down of their product."""
    case = Case()
    tokens, used, ne = 23, 3, (64, 3, 23)
    gate, up, down = (case.leaf((64, 64, 6), Q8_0) for _ in range(3))
    order = np.argsort(case.rng.random((tokens, 6)), axis=-1)
    all_ids = case.leaf(order, GGMLType.I32)
    ids = case.view(all_ids, (used, tokens), all_ids.nb[:2])
    x = case.leaf((64, 1, tokens))
    first = case.node(Op.MUL_MAT_ID, [gate, x, ids], ne)
    second = case.node(Op.MUL_MAT_ID, [up, x, ids], ne)
    both = case.node(Op.MUL, [first, second], ne)
    case.node(Op.MUL_MAT_ID, [down, both, ids], ne)
    check(opencl, case)


@pytest.mark.parametrize("tokens", [1, 9], ids=["one", "many"])
@pytest.mark.parametrize("type", [Q8_0, F16], ids=lambda type: type.name)
@pytest.mark.parametrize("wrong", [4, -1])
def test_expert_that_is_not_there_is_refused(
    opencl: OpenClDevice, type: GGMLType, tokens: int, wrong: int
) -> None:
    case = Case()
    a, b = case.leaf((32, 8, 4), type), case.leaf((32, 2, tokens))
    ids = np.zeros((tokens, 2), int)
    ids[-1, 1] = wrong
    sources = [a, b, case.leaf(ids, GGMLType.I32)]
    case.node(Op.MUL_MAT_ID, sources, (8, 2, tokens), name="y")
    with pytest.raises(GraphError, match=f"'y': index {wrong} is out of range"):
        run_case(opencl, case)
