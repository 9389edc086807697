"""The matrix products of GPUs on a processor, compared with the definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.ops.quantized import TYPES
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig
from ggrpc.formats.nmse import nmse
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS, GGMLType
from tests.devices.conftest import open_opencl
from tests.devices.cpu.ops.test_matmul import expected, mul_mat
from tests.support.case import Case, run_case

LIMIT = 1e-11  # float32, and nothing is rounded to fewer bits

F32, F16 = GGMLType.F32, GGMLType.F16

SHAPES = (
    LaunchConfig(items=16, rows=1, tile_rows=8, tile_tokens=16, depth=1),
    LaunchConfig(items=128, rows=4, tile_rows=128, tile_tokens=128, depth=4),
)


@pytest.fixture(scope="module")
def gpu() -> Iterator[OpenClDevice]:
    device = open_opencl(shares_memory=False)
    yield device
    device.close()


def assert_right(device: OpenClDevice, case: Case, a: Tensor, b: Tensor) -> None:
    y = mul_mat(case, a, b)
    assert nmse(run_case(device, case)[str(y.id)], expected(case, a, b)) < LIMIT


@pytest.mark.parametrize("rows", [1, 19])
@pytest.mark.parametrize("type", sorted(TYPES | FLOATS), ids=lambda type: type.name)
def test_mul_mat_of_each_type_is_right(
    gpu: OpenClDevice, type: GGMLType, rows: int
) -> None:
    case = Case(seed=type)
    assert_right(gpu, case, case.leaf((512, 37), type), case.leaf((512, rows)))


@pytest.mark.parametrize("rows", [2, 3, 7, 8, 9, 70])
@pytest.mark.parametrize("n", [1, 64, 77])
def test_mul_mat_of_any_number_of_rows_is_right(
    gpu: OpenClDevice, n: int, rows: int
) -> None:
    case = Case()
    assert_right(gpu, case, case.leaf((96, n), GGMLType.Q4_1), case.leaf((96, rows)))


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("k", [1, 15, 83])
@pytest.mark.parametrize("type", sorted(FLOATS), ids=lambda type: type.name)
def test_mul_mat_of_any_number_of_plain_columns_is_right(
    gpu: OpenClDevice, type: GGMLType, k: int, rows: int
) -> None:
    case = Case()
    assert_right(gpu, case, case.leaf((k, 37), type), case.leaf((k, rows)))


@pytest.mark.parametrize("type", [F32, GGMLType.Q8_0])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    ("a_outer", "b_outer"), [((1, 1), (2, 3)), ((2, 3), (4, 6)), ((1, 2), (3, 4))]
)
def test_mul_mat_repeats_outer_dims(
    gpu: OpenClDevice,
    type: GGMLType,
    rows: int,
    a_outer: tuple[int, int],
    b_outer: tuple[int, int],
) -> None:
    case = Case()
    a, b = case.leaf((64, 9, *a_outer), type), case.leaf((64, rows, *b_outer))
    assert_right(gpu, case, a, b)


@pytest.mark.parametrize("tokens", [1, 5])
def test_mul_mat_of_queries_that_share_keys_is_right(
    gpu: OpenClDevice, tokens: int
) -> None:
    case = Case()
    keys = case.permute(case.leaf((64, 3, 50), F16), 0, 2, 1, 3)
    queries = case.permute(case.leaf((64, 12, tokens)), 0, 2, 1, 3)
    assert_right(gpu, case, keys, queries)


def test_mul_mat_of_numbers_that_are_none_stays_in_its_rows(gpu: OpenClDevice) -> None:
    case = Case()
    values = np.ones((20, 33), np.float32)
    values[7] = np.nan
    a, b = case.leaf(np.ones((9, 33), np.float32), F16), case.leaf(values)
    y = mul_mat(case, a, b)
    result = run_case(gpu, case)[str(y.id)][0, 0]
    assert np.isnan(result[7]).all()
    assert (np.delete(result, 7, 0) == 33).all()


@pytest.mark.parametrize("shapes", SHAPES, ids=["small", "large"])
@pytest.mark.parametrize("rows", [1, 150])
def test_mul_mat_in_other_shapes_is_right(
    gpu: OpenClDevice, monkeypatch: pytest.MonkeyPatch, shapes: LaunchConfig, rows: int
) -> None:
    monkeypatch.setattr(gpu, "traits", gpu.traits._replace(launch_config=shapes))
    case = Case()
    a, b = case.leaf((512, 77), GGMLType.Q6_K), case.leaf((512, rows))
    assert_right(gpu, case, a, b)
