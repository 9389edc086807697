"""CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT on the cpu device."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.copies import ConcatParams
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, run_case, values
from tests.support.cases.copies import cases, cpy, get_rows, set_rows
from tests.support.reference import assert_agree, by_definition


def define(node: Node, a: Array, *others: Array) -> Array:
    op, shape = node.tensor.op, node.tensor.ne[::-1]
    if op == Op.REPEAT:
        return np.tile(a, [n // m for n, m in zip(shape, a.shape, strict=True)])
    if op == Op.CONCAT:
        return np.concatenate([a, *others], axis=3 - node.params.dim)
    if op == Op.ROLL:
        return np.roll(a, node.params[::-1], axis=(0, 1, 2, 3))
    if op == Op.GET_ROWS:
        return define_get_rows(a, *others)
    if op == Op.SET_ROWS:
        return define_set_rows(a, *others)
    return a.reshape(shape)


def define_get_rows(a: Array, ids: Array) -> Array:
    rows = np.empty((*ids.shape[1:], a.shape[-1]), a.dtype)
    for i3, i2, i1 in np.ndindex(rows.shape[:3]):
        rows[i3, i2, i1] = a[i3, i2, ids[0, i3, i2, i1]]
    return rows


def define_set_rows(b: Array, ids: Array, a: Array) -> Array:
    a = a.copy()
    for i3, i2, i1 in np.ndindex(b.shape[:3]):
        row = ids[0, i3 % ids.shape[1], i2 % ids.shape[2], i1]
        a[i3, i2, row] = b[i3, i2, i1]
    return a


# The definition unpacks and packs blocks that a plain copy moves unchanged.
UNDEFINED = ("CPY-Q4_0-Q4_0", "SET_ROWS-before_2025_09")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in cases() if name not in UNDEFINED],
)
def test_copy_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_copy_within_a_quantized_type_keeps_its_bytes(cpu: CpuDevice) -> None:
    case = cpy(GGMLType.Q4_0, GGMLType.Q4_0)
    (y,) = run_case(cpu, case).values()
    np.testing.assert_array_equal(y, values(case.tensors[0], case.image))


def test_set_rows_without_its_target_as_source_writes_the_same(cpu: CpuDevice) -> None:
    old, new = (set_rows(GGMLType.F16, with_target=named) for named in (False, True))
    assert_agree(old, run_case(cpu, old), run_case(cpu, new))


@pytest.mark.parametrize("wrong", [-1, 12, 2**31 - 1])
@pytest.mark.parametrize("count", [1, 3])
def test_get_rows_refuses_invalid_indices(
    cpu: CpuDevice, wrong: int, count: int
) -> None:
    case = get_rows(GGMLType.F32, ids=np.array([0, 1, wrong][-count:]))
    with pytest.raises(GraphError, match=f"GET_ROWS.* no row {wrong} of 12"):
        run_case(cpu, case)


@pytest.mark.parametrize("wrong", [-1, 9, 2**40])
def test_set_rows_refuses_invalid_indices(cpu: CpuDevice, wrong: int) -> None:
    case = set_rows(GGMLType.F16, ids=np.array([0, 1, wrong]))
    with pytest.raises(GraphError, match=f"SET_ROWS.* no row {wrong} of 9"):
        run_case(cpu, case)


def test_set_rows_of_equal_ids_keeps_the_last(cpu: CpuDevice) -> None:
    case = Case()
    rows = case.leaf(np.arange(6.0).reshape(3, 2))
    ids = case.leaf(np.array([1, 0, 1]), GGMLType.I64)
    a = case.leaf(np.zeros((2, 2)))
    case.node(Op.SET_ROWS, [rows, ids, a], a.ne, inplace_over=a, name="y")
    y = run_case(cpu, case)["y"]
    assert y.reshape(2, 2).tolist() == [[2, 3], [4, 5]]


def test_copy_from_ints_to_quantized_is_not_supported(cpu: CpuDevice) -> None:
    case = Case()
    x = case.leaf(np.zeros((1, 32)), GGMLType.I32)
    y = case.leaf((32,), GGMLType.Q8_0)
    case.node(Op.CPY, [x, y], y.ne, GGMLType.Q8_0, inplace_over=y)
    assert not any(cpu.supports(node) for node in case.graph().nodes)


def test_blocks_of_a_type_without_packing_are_copied(cpu: CpuDevice) -> None:
    case = Case()
    a, b = (case.leaf((256, n), GGMLType.IQ2_XS) for n in (2, 3))
    params = ConcatParams(1)
    case.node(Op.CONCAT, [a, b], (256, 5), GGMLType.IQ2_XS, params, name="both")
    parts = [values(leaf, case.image) for leaf in (a, b)]
    both = run_case(cpu, case)["both"]
    np.testing.assert_array_equal(both, np.concatenate(parts, axis=2))


@pytest.mark.parametrize("matrices", [1, 3])
def test_get_rows_uses_little_memory(
    matrices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggrpc.devices.cpu.ops.copies.GATHER_SIZE", 1 << 12)
    case, count = Case(), 1 << 12
    rows = case.leaf((64, 8, matrices))
    ids = np.arange(count * matrices, dtype=np.int32).reshape(matrices, count) % 8
    index = case.leaf(ids, GGMLType.I32)
    case.node(Op.GET_ROWS, [rows, index], (64, count, matrices), name="y")
    cpu = CpuDevice(threads=1, weight_cache=0)
    buffer = cpu.allocate(case.size)
    buffer.put(0, memoryview(case.image))
    program = cpu.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    tracemalloc.start()
    program.run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 18  # the result has 1 MiB for each matrix
    out = case.results(bytes(buffer.read(0, case.size)))["y"][0]
    x = values(rows, case.image)[0]
    for at in range(matrices):
        np.testing.assert_array_equal(out[at], x[at][ids[at]])
