"""The cases of every op on the cpu device, with other memory layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.errors import GraphError
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from tests.support.case import Array, Case, run_case
from tests.support.cases import all_cases
from tests.support.layouts import (
    Strides,
    in_place,
    shifted,
    transposed,
    with_gaps,
    with_strided_results,
    with_strided_sources,
)

LARGE = (
    1 << 18
)  # bytes; larger tensors are split among threads, and need no other layouts
LIMIT = 1e-9  # with other strides, numpy adds in another order

Run = Callable[[Case], dict[str, Array]]


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    device = CpuDevice(threads=1)
    yield device
    device.close()


@pytest.fixture(scope="module")
def usual(device: CpuDevice) -> Run:
    """The results of a case in its original layout, computed once for all tests."""
    return cache(partial(run_case, device))


def small_cases() -> list[object]:
    small = [(name, case) for name, case in all_cases().items() if case.size < LARGE]
    return [pytest.param(case, id=name) for name, case in small]


each_case = pytest.mark.parametrize("case", small_cases())


def assert_same(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    for name, right in expected.items():
        finite = np.isfinite(right)
        assert np.array_equal(finite, np.isfinite(actual[name])), name
        assert nmse(actual[name][finite], right[finite]) < LIMIT, name


@each_case
def test_op_at_an_unaligned_address_has_the_same_result(
    device: CpuDevice, usual: Run, case: Case
) -> None:
    assert_same(run_case(device, shifted(case, 1)), usual(case))


@pytest.mark.parametrize("strides", [with_gaps, transposed])
@each_case
def test_op_of_strided_sources_has_the_same_result_or_is_refused(
    device: CpuDevice, usual: Run, case: Case, strides: Strides
) -> None:
    if strides is transposed and any(t.op == Op.SUM for t in case.tensors):
        pytest.skip("ggml's SUM reads a row's elements side by side, whatever nb[0] is")
    try:
        actual = run_case(device, with_strided_sources(case, strides))
    except GraphError as refusal:
        said = str(refusal)
        assert "must be contiguous" in said or "without gaps" in said
    else:
        assert_same(actual, usual(case))


@each_case
def test_op_into_a_strided_result_is_equal_or_refused(
    device: CpuDevice, usual: Run, case: Case
) -> None:
    try:
        actual = run_case(device, with_strided_results(case, with_gaps))
    except GraphError as refusal:
        assert "must be contiguous" in str(refusal)  # noqa: PT017  some ops allow it
    else:
        assert_same(actual, usual(case))


@each_case
def test_op_that_overwrites_its_source_has_the_same_result(
    device: CpuDevice, usual: Run, case: Case
) -> None:
    for over in in_place(case):
        assert_same(run_case(device, over), usual(case))
