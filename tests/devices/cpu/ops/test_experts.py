"""MUL_MAT_ID and ADD_ID on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.ops.experts import MAX_ROWS
from ggrpc.devices.device import Placed
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, run_case
from tests.support.cases.experts import cases, mul_mat_id
from tests.support.reference import assert_agree, by_definition

WEIGHTS = 0x22  # the handle of a buffer that no program writes into


def define(node: Node, a: Array, b: Array, ids: Array) -> Array:
    if node.tensor.op == Op.ADD_ID:
        return a + b[0, 0, ids[0, 0]]
    wanted = np.arange(ids.shape[3]) % b.shape[2]
    return np.einsum("tjik,tjk->tji", a[0, ids[0, 0]], b[0][:, wanted])[None]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_experts_equal_their_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("type", [GGMLType.F16, GGMLType.Q4_K], ids=lambda t: t.name)
def test_only_chosen_experts_are_cached(
    cpu: CpuDevice, type: GGMLType, tokens: int
) -> None:
    case = mul_mat_id(type, tokens, n_expert=12)
    experts, y = case.tensors[0], case.tensors[-1]
    weights, work = cpu.allocate(experts.nbytes), cpu.allocate(case.size)
    with weights.write(0, weights.size) as window:
        window[:] = case.image[experts.data : experts.data + weights.size]
    graph = case.graph()
    moved = graph.tensors[experts.id]._replace(buffer=WEIGHTS, data=0)
    graph = Graph({**graph.tensors, experts.id: moved}, graph.node_ids)
    places = {HANDLE: Placed(BASE, work), WEIGHTS: Placed(0, weights)}
    program = cpu.compile(graph, places)
    assert cpu.weights.used == 0
    for _ in range(2):
        with work.write(0, case.size) as window:
            window[:] = case.image
        program.run()
        with work.read(0, case.size) as window:
            result = case.results(bytes(window))
    right = by_definition(case, define)[str(y.id)]
    assert nmse(result[str(y.id)], right) < 1e-10
    one = 4 * experts.ne[0] * experts.ne[1]
    assert cpu.weights.used % one == 0
    assert 4 * one <= cpu.weights.used <= min(12, 4 * tokens) * one


@pytest.mark.parametrize("op", [Op.MUL_MAT_ID, Op.ADD_ID], ids=lambda op: op.name)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("wrong", [4, -1])
def test_invalid_expert_is_refused(
    cpu: CpuDevice, op: Op, tokens: int, wrong: int
) -> None:
    case = Case()
    ids = np.zeros((tokens, 2), int)
    ids[-1, 1] = wrong
    experts = (16, 8, 4) if op == Op.MUL_MAT_ID else (16, 4)
    sources = [case.leaf(experts), case.leaf((16, 2, tokens))]
    if op == Op.ADD_ID:
        sources.reverse()
    ne = (8, 2, tokens) if op == Op.MUL_MAT_ID else (16, 2, tokens)
    case.node(op, [*sources, case.leaf(ids, GGMLType.I32)], ne, name="y")
    with pytest.raises(GraphError, match=f"'y': there is no .* {wrong} of 4"):
        run_case(cpu, case)


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.Q8_0], ids=lambda t: t.name)
def test_expert_of_many_tokens_is_multiplied_in_parts(
    cpu: CpuDevice, type: GGMLType
) -> None:
    case = mul_mat_id(type, MAX_ROWS + 5, k=256, n=64, n_expert=4)
    assert_agree(case, run_case(cpu, case), by_definition(case, define))
