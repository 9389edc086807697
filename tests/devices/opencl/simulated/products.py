"""MUL_MAT with each type of matrix; MUL_MAT_ID is among the ops."""

from __future__ import annotations

import pytest

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.ops.quantized import TYPES
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig
from ggrpc.types import FLOATS, GGMLType
from tests.devices.opencl.ops.test_gpu_matmul import SHAPES, assert_right
from tests.support.case import Case

Q6_K = GGMLType.Q6_K


@pytest.mark.parametrize("rows", [1, 5, 19])
@pytest.mark.parametrize("type", sorted(TYPES | FLOATS), ids=lambda type: type.name)
def test_products(gpu: OpenClDevice, type: GGMLType, rows: int) -> None:
    case = Case(seed=type)
    assert_right(gpu, case, case.leaf((256, 21), type), case.leaf((256, rows)))


@pytest.mark.parametrize("shapes", SHAPES, ids=["small", "large"])
@pytest.mark.parametrize("rows", [1, 17])
def test_products_in_other_shapes(
    gpu: OpenClDevice, monkeypatch: pytest.MonkeyPatch, shapes: LaunchConfig, rows: int
) -> None:
    monkeypatch.setattr(gpu, "traits", gpu.traits._replace(launch_config=shapes))
    case = Case()
    assert_right(gpu, case, case.leaf((256, 9), Q6_K), case.leaf((256, rows)))
