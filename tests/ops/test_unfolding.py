"""The contracts of IM2COL, IM2COL_3D, IM2COL_BACK, COL2IM_1D."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.unfolding import Col2im1dParams, Im2col3dParams, Im2colParams, outputs
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.unfolding import im2col
from tests.support.contracts import assert_refused

F32, F16 = GGMLType.F32, GGMLType.F16
PLANE = Im2colParams(1, 1, 0, 0, 1, 1, 1)
ROW = Im2colParams(1, 0, 0, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        ((10, 3, 1, 0, 1), 8),
        ((10, 3, 1, 1, 1), 10),
        ((10, 3, 2, 0, 1), 4),
        ((10, 3, 1, 0, 2), 6),
        ((2, 3, 2, 0, 1), 1),  # C divides -1 by 2 to 0
        ((2, 0, 1, 0, 1), 3),
    ],
)
def test_outputs_are_counted_as_ggml_does(numbers: Sequence[int], count: int) -> None:
    assert outputs(*numbers) == count


def test_im2col_with_other_channels_than_the_kernel_is_refused() -> None:
    case = im2col(PLANE, (9, 8, 3, 1), (3, 3, 2, 5))
    assert_refused(case, "the image has 3 channels, must have 2")


def test_im2col_1d_of_a_four_dimensional_image_is_refused() -> None:
    case = im2col(ROW, (9, 2, 3, 2), (3, 2, 5))
    assert_refused(case, r"the image's ne\[3\] is 2, must be 1")


def test_im2col_to_a_wider_type_is_refused() -> None:
    case = im2col(PLANE, types=(F16, F16, F32))
    assert_refused(case, "the result is F32, must be F16 because b is F16")


@pytest.mark.parametrize("params", [PLANE._replace(s1=0), ROW._replace(s0=-1)])
def test_im2col_without_a_stride_is_refused(params: Im2colParams) -> None:
    case = Case()
    a, b = case.leaf((1, 1)), case.leaf((4, 1))
    case.node(Op.IM2COL, [a, b], (1, 4), params=params)
    assert_refused(case, "a stride is .*, must be >= 1")


def test_im2col_back_to_a_larger_image_is_refused() -> None:
    case = Case()
    columns, kernel = case.leaf((9, 4, 4)), case.leaf((3, 3))
    case.node(Op.IM2COL_BACK, [columns, kernel], (7, 6), params=PLANE)
    assert_refused(case, r"a's ne is \[9, 4, 4, 1\], must be \[9, 5, 4, 1\]")


def test_im2col_3d_without_channels_is_refused() -> None:
    case = Case()
    a, b = case.leaf((1, 1, 1)), case.leaf((4, 4, 4))
    params = Im2col3dParams(1, 1, 1, 0, 0, 0, 1, 1, 1, 0)
    case.node(Op.IM2COL_3D, [a, b], (1, 4, 4, 4), params=params)
    assert_refused(case, "ic is 0, must be > 0")


@pytest.mark.parametrize(
    ("ne", "params", "message"),
    [
        ((8, 3), Col2im1dParams(0, 2, 0), "a stride is .*, must be >= 1"),
        ((8, 3), Col2im1dParams(2, 0, 0), "oc is 0 and p0 is 0, must be > 0"),
        ((8, 3), Col2im1dParams(2, 2, -1), "p0 is -1, must be > 0 and >= 0"),
        ((8, 3), Col2im1dParams(2, 3, 0), "must be > 0 and a multiple of oc, 3"),
        ((8, 3, 2), Col2im1dParams(2, 2, 0), "a's ne is .*, must be a matrix"),
    ],
)
def test_col2im_with_invalid_parameters_is_refused(
    ne: Sequence[int], params: Col2im1dParams, message: str
) -> None:
    case = Case()
    case.node(Op.COL2IM_1D, [case.leaf(ne)], (8, 2), params=params)
    assert_refused(case, message)


def test_col2im_to_another_type_is_refused() -> None:
    case = Case()
    params = Col2im1dParams(2, 2, 0)
    case.node(Op.COL2IM_1D, [case.leaf((8, 3))], (8, 2), F16, params)
    assert_refused(case, "a must have the type of the result")
