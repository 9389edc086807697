"""MUL_MAT on OpenCL against its definition in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.ops import matmul
from ggrpc.devices.opencl.ops.quantized import CHUNK, TYPES
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.devices.conftest import open_opencl
from tests.devices.cpu.ops.test_matmul import expected, mul_mat
from tests.support.case import Case, run_case

F32, F16, BF16 = GGMLType.F32, GGMLType.F16, GGMLType.BF16

LIMIT = 5e-4  # the other operand is rounded to 8 bits
FLOAT_LIMIT = 1e-10


@pytest.fixture(scope="module")
def device() -> Iterator[OpenClDevice]:
    device = open_opencl()
    yield device
    device.close()


@pytest.fixture(scope="module")
def portable() -> Iterator[OpenClDevice]:
    device = open_opencl()
    device.traits = device.traits._replace(int8_dot="")
    yield device
    device.close()


def product(device: OpenClDevice, case: Case, a: Tensor, b: Tensor) -> Array:
    y = mul_mat(case, a, b)
    result = run_case(device, case)[str(y.id)]
    limit = LIMIT if a.type.is_quantized else FLOAT_LIMIT
    assert nmse(result, expected(case, a, b)) < limit
    return result


@pytest.mark.parametrize("rows", [1, 19])
@pytest.mark.parametrize("type", sorted(TYPES), ids=lambda type: type.name)
def test_mul_mat_of_each_type_is_right_whatever_dots_the_processor_has(
    device: OpenClDevice, portable: OpenClDevice, type: GGMLType, rows: int
) -> None:
    results = []
    for each in (device, portable):
        case = Case(seed=type)
        a, b = case.leaf((512, 37), type), case.leaf((512, rows))
        results.append(product(each, case, a, b))
    assert np.array_equal(*results)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_mul_mat_of_few_rows_is_right(device: OpenClDevice, rows: int) -> None:
    case = Case()
    a, b = case.leaf((256, 70), GGMLType.Q4_0), case.leaf((256, rows))
    product(device, case, a, b)


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("type", [GGMLType.Q8_0, GGMLType.MXFP4])
def test_mul_mat_of_rows_that_are_no_whole_steps_is_right(
    device: OpenClDevice, type: GGMLType, rows: int
) -> None:
    case = Case()
    a, b = case.leaf((160, 19), type), case.leaf((160, rows))
    product(device, case, a, b)


@pytest.mark.parametrize("rows", [1, 9])
def test_mul_mat_of_more_columns_than_a_panel_has_is_right(
    device: OpenClDevice, rows: int
) -> None:
    case = Case()
    a, b = case.leaf((CHUNK + 96, 19), GGMLType.Q8_0), case.leaf((CHUNK + 96, rows))
    product(device, case, a, b)


@pytest.mark.parametrize(("a3", "b3"), [(1, 3), (2, 2)])
def test_mul_mat_of_shared_quantized_matrices_is_right(
    device: OpenClDevice, a3: int, b3: int
) -> None:
    case = Case()
    a2 = 1 if a3 == 1 else 3
    a = case.leaf((64, 7, a2, a3), GGMLType.Q4_0)
    b = case.permute(case.leaf((64, 6, 5, b3)), 0, 2, 1, 3)
    product(device, case, a, b)


def test_mul_mats_of_rows_that_share_memory_are_right(device: OpenClDevice) -> None:
    case = Case()
    a = case.leaf((64, 64), GGMLType.Q8_0)
    b, c = case.leaf((64, 3)), case.leaf((64, 3))
    first, second, again = (mul_mat(case, a, x) for x in (b, c, b))
    results = run_case(device, case)
    assert nmse(results[str(second.id)], expected(case, a, c)) < LIMIT
    assert np.array_equal(results[str(first.id)], results[str(again.id)])


@pytest.mark.parametrize("rows", [1, 2, 3, 11])
@pytest.mark.parametrize("type", [F32, F16, BF16], ids=lambda type: type.name)
def test_mul_mat_of_plain_matrices_is_right(
    device: OpenClDevice, portable: OpenClDevice, type: GGMLType, rows: int
) -> None:
    for each in (device, portable):
        case = Case()
        a, b = case.leaf((83, 37), type), case.leaf((83, rows))
        product(each, case, a, b)


@pytest.mark.parametrize("rows", [1, 9])
def test_mul_mat_of_more_plain_columns_than_a_panel_has_is_right(
    device: OpenClDevice, rows: int
) -> None:
    case = Case()
    k = 2 * matmul.CHUNK + 17
    a, b = case.leaf((k, 40), F16), case.leaf((k, rows))
    product(device, case, a, b)


@pytest.mark.parametrize("tokens", [1, 5])
def test_mul_mat_of_queries_that_share_keys_is_right(
    device: OpenClDevice, tokens: int
) -> None:
    case = Case()
    keys = case.permute(case.leaf((64, 3, 50), F16), 0, 2, 1, 3)
    queries = case.permute(case.leaf((64, 12, tokens)), 0, 2, 1, 3)
    product(device, case, keys, queries)


def test_mul_mat_of_a_row_for_each_matrix_is_right(device: OpenClDevice) -> None:
    case = Case()
    product(device, case, case.leaf((33, 9, 3, 2)), case.leaf((33, 1, 3, 2)))
