"""MUL_MAT on the cpu device against its definition in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.compiler import MIN_PARALLEL
from ggrpc.devices.cpu.ops.matmul import MIN_GROUPS
from ggrpc.devices.device import Placed
from ggrpc.formats.codecs import CODECS, GROUP, Array
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, run_case, values

WEIGHTS = 0x22  # the handle of a buffer that no program writes into

MATRIX_TYPES = [type for type in CODECS if type is not GGMLType.F64]


@pytest.fixture(params=[1, 3])
def device(request: pytest.FixtureRequest) -> Iterator[CpuDevice]:
    device = CpuDevice(threads=request.param)
    yield device
    device.close()


def mul_mat(case: Case, a: Tensor, b: Tensor) -> Tensor:
    return case.node(Op.MUL_MAT, [a, b], [a.ne[1], *b.ne[1:]])


def expected(case: Case, a: Tensor, b: Tensor) -> Array:
    """y[i3, i2, i1, i0] = sum over k of a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    left = values(a, case.image).astype(np.float64)
    right = values(b, case.image).astype(np.float64)
    left = left.repeat(b.ne[2] // a.ne[2], 1).repeat(b.ne[3] // a.ne[3], 0)
    return np.einsum("abnk,abmk->abmn", left, right)


def assert_right(device: CpuDevice, case: Case, a: Tensor, b: Tensor) -> None:
    y = mul_mat(case, a, b)
    assert_close(run_case(device, case)[str(y.id)], expected(case, a, b))


def assert_close(result: Array, right: Array) -> None:
    # Sums of float32 in another order differ by a few roundings of the largest terms.
    scale = np.abs(right).max(initial=1)
    np.testing.assert_allclose(result, right, rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("type", MATRIX_TYPES, ids=lambda type: type.name)
def test_mul_mat_of_each_type_is_correct(
    device: CpuDevice, type: GGMLType, rows: int
) -> None:
    case = Case(seed=type)
    a, b = case.leaf((512, 37), type), case.leaf((512, rows))
    assert_right(device, case, a, b)


@pytest.mark.parametrize("type", [GGMLType.F16, GGMLType.Q8_0, GGMLType.Q4_K])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_mul_mat_of_large_packed_matrix_is_correct(
    device: CpuDevice, type: GGMLType, rows: int
) -> None:
    case = Case()
    a, b = case.leaf((256, 2 * MIN_PARALLEL // 256 + 3), type), case.leaf((256, rows))
    assert_right(device, case, a, b)


@pytest.mark.parametrize("type", [GGMLType.F16, GGMLType.Q8_0])
def test_mul_mat_of_packed_matrices_in_several_blocks_is_correct(
    device: CpuDevice, type: GGMLType
) -> None:
    case = Case()
    n = GROUP * MIN_GROUPS // (512 * 2) + 5  # the last block is shorter
    a, b = case.leaf((512, n, 2), type), case.leaf((512, 1, 4))
    assert_right(device, case, a, b)


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16, GGMLType.Q8_0])
@pytest.mark.parametrize("n", [9, 2000])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(
    ("a_outer", "b_outer"),
    [
        ((1, 1), (3, 1)),
        ((1, 1), (2, 3)),
        ((2, 1), (2, 3)),
        ((2, 1), (6, 1)),
        ((2, 3), (4, 6)),
        ((1, 2), (3, 2)),
        ((1, 2), (3, 4)),
    ],
)
def test_mul_mat_repeats_outer_dims(
    device: CpuDevice,
    type: GGMLType,
    n: int,
    rows: int,
    a_outer: tuple[int, int],
    b_outer: tuple[int, int],
) -> None:
    case = Case()
    a, b = case.leaf((64, n, *a_outer), type), case.leaf((64, rows, *b_outer))
    assert_right(device, case, a, b)


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16, GGMLType.BF16])
@pytest.mark.parametrize("n_kv", [32, 1024])
@pytest.mark.parametrize("n_tokens", [1, 4])
def test_mul_mat_of_permuted_key_cache_is_correct(
    device: CpuDevice, type: GGMLType, n_kv: int, n_tokens: int
) -> None:
    case = Case()
    cache = case.leaf((64, 4, n_kv + 8), type)
    heads = case.leaf((64, 12, n_tokens))
    keys = case.permute(case.view(cache, (64, 4, n_kv), cache.nb[:3]), 0, 2, 1, 3)
    assert_right(device, case, keys, case.permute(heads, 0, 2, 1, 3))


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16])
def test_mul_mat_of_transposed_value_cache_is_correct(
    device: CpuDevice, type: GGMLType
) -> None:
    case = Case()
    n_ctx, n_kv = 700, 640
    cache = case.leaf((n_ctx, 64 * 4), type)
    size = type.type_size
    rows = case.view(
        cache, (n_kv, 64, 4), (size, n_ctx * size, 64 * n_ctx * size), offset=2 * size
    )
    assert_right(device, case, rows, case.leaf((n_kv, 3, 12)))


@pytest.mark.parametrize("type", [GGMLType.F16, GGMLType.BF16])
def test_mul_mat_with_packed_second_source_is_correct(
    device: CpuDevice, type: GGMLType
) -> None:
    case = Case()
    a, b = case.leaf((64, 7, 2)), case.leaf((64, 3, 4), type)
    assert_right(device, case, a, b)


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16])
def test_mul_mat_of_strided_sources_is_correct(
    device: CpuDevice, type: GGMLType
) -> None:
    case = Case()
    a = case.leaf((128, 20), type)
    b = case.leaf((128, 20))
    every_second = case.view(a, (64, 10), (2 * a.nb[0], 2 * a.nb[1]))
    third_rows = case.view(b, (64, 5), (2 * b.nb[0], 3 * b.nb[1]))
    assert_right(device, case, every_second, third_rows)


def test_mul_mat_of_one_row_repeated_is_correct(device: CpuDevice) -> None:
    case = Case()
    a, b = case.leaf((64, 10)), case.leaf((64, 1))
    assert_right(device, case, a, case.view(b, (64, 5), (4, 0)))


def test_mul_mat_into_strided_result_is_correct(device: CpuDevice) -> None:
    case = Case()
    a, b = case.leaf((64, 10, 2)), case.leaf((64, 3, 4))
    space = case.leaf((4, 3, 10, 4))
    ne, nb = (10, 3, 4, 1), (space.nb[2], space.nb[1], space.nb[3], space.nb[3] * 4)
    over = case.view(space, ne, nb)
    y = case.node(Op.MUL_MAT, [a, b], ne, inplace_over=over)
    assert_close(run_case(device, case)[str(y.id)], expected(case, a, b))


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.Q8_0])
@pytest.mark.parametrize("ne", [((64, 0), (64, 3)), ((64, 5), (64, 0))])
def test_mul_mat_of_empty_tensors_is_empty(
    device: CpuDevice, type: GGMLType, ne: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    case = Case()
    y = mul_mat(case, case.leaf(ne[0], type), case.leaf(ne[1]))
    assert run_case(device, case)[str(y.id)].size == 0


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.Q8_0])
def test_mul_mat_over_empty_rows_is_zero(device: CpuDevice, type: GGMLType) -> None:
    case = Case()
    y = mul_mat(case, case.leaf((0, 5), type), case.leaf((0, 3)))
    assert not run_case(device, case)[str(y.id)].any()


def test_mul_mat_keeps_infinity_and_nan(device: CpuDevice) -> None:
    case = Case()
    a = case.leaf(np.array([[np.inf, 0], [np.nan, 1]], np.float32))
    y = mul_mat(case, a, case.leaf(np.array([[1, 0]], np.float32)))
    result = run_case(device, case)[str(y.id)].ravel()
    np.testing.assert_array_equal(result, [np.inf, np.nan])


@pytest.mark.parametrize("cache", [1 << 30, 0], ids=["cached", "uncached"])
@pytest.mark.parametrize("type", [GGMLType.Q8_0, GGMLType.F16])
@pytest.mark.parametrize("outer", [(1, 1), (2, 3)])
def test_mul_mat_follows_changes_of_the_weight(
    cache: int, type: GGMLType, outer: tuple[int, int]
) -> None:
    device = CpuDevice(threads=2, weight_cache=cache)
    weights, activations = Case(seed=1), Case(seed=2)
    weights.leaf((64, 300, *outer), type)
    b = activations.leaf((64, 3, 2, 3))
    placed = weights.tensors[0]._replace(id=99, buffer=WEIGHTS, data=BASE)
    y = activations.node(Op.MUL_MAT, [placed, b], (300, 3, 2, 3))
    graph = activations.graph()
    graph = Graph.of([*graph.tensors.values(), placed], graph.node_ids)
    buffers = {
        WEIGHTS: Placed(BASE, device.allocate(weights.size)),
        HANDLE: Placed(BASE, device.allocate(activations.size)),
    }
    with buffers[HANDLE].buffer.write(0, activations.size) as window:
        window[:] = activations.image
    program = device.compile(graph, buffers)
    for seed in 3, 4:
        fresh = Case(seed)
        a = fresh.leaf((64, 300, *outer), type)
        with buffers[WEIGHTS].buffer.write(0, fresh.size) as window:
            window[:] = fresh.image
        left = values(a, fresh.image).repeat(2 // outer[0], 1).repeat(3 // outer[1], 0)
        right = np.einsum("abnk,abmk->abmn", left, values(b, activations.image))
        for _ in range(2):
            program.run()
            with buffers[HANDLE].buffer.read(0, activations.size) as window:
                assert_close(activations.results(bytes(window))[str(y.id)], right)
        assert device.weights.used == (4 * a.nelements if cache else 0)
    device.close()
