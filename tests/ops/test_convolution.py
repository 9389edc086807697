"""The contracts of CONV_2D, CONV_2D_DW, CONV_3D, CONV_TRANSPOSE_1D and _2D."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.convolution import (
    Conv2dParams,
    Conv3dParams,
    ConvTranspose1dParams,
    ConvTranspose2dParams,
)
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused

PLAIN = Conv2dParams(1, 1, 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("op", "kernel", "message"),
    [
        (Op.CONV_2D, (3, 3, 3, 5), r"a.ne\[2\] is 3, must equal b.ne\[2\], 2"),
        (Op.CONV_2D_DW, (3, 3, 2, 2), r"a.ne\[2\] is 2, must be 1"),
        (Op.CONV_2D_DW, (3, 3, 1, 3), r"a.ne\[3\] is 3, must equal b.ne\[2\], 2"),
    ],
)
def test_convolution_with_invalid_kernels_is_refused(
    op: Op, kernel: Sequence[int], message: str
) -> None:
    case = Case()
    a, b = case.leaf(kernel), case.leaf((9, 8, 2))
    case.node(op, [a, b], (7, 6, 5), params=PLAIN)
    assert_refused(case, message)


def test_conv_2d_without_a_stride_is_refused() -> None:
    case = Case()
    a, b = case.leaf((3, 3)), case.leaf((9, 8))
    case.node(Op.CONV_2D, [a, b], (7, 6), params=PLAIN._replace(s1=0))
    assert_refused(case, "a stride is .*, must be >= 1")


def test_conv_2d_with_quantized_kernels_is_refused() -> None:
    case = Case()
    a, b = case.leaf((32, 3), GGMLType.Q8_0), case.leaf((40, 8))
    case.node(Op.CONV_2D, [a, b], (9, 6), params=PLAIN)
    assert_refused(case, "source a is Q8_0, must be one of F32, F16")


@pytest.mark.parametrize("counts", [(2, 3, 4), (-2, -3, -4), (3, 1, 4)])
def test_conv_3d_with_invalid_counts_is_refused(counts: tuple[int, int, int]) -> None:
    case = Case()
    a, b = case.leaf((1, 1, 1, 8)), case.leaf((4, 4, 4, 2))
    params = Conv3dParams(1, 1, 1, 0, 0, 0, 1, 1, 1, *counts)
    case.node(Op.CONV_3D, [a, b], (4, 4, 4, 4), params=params)
    assert_refused(
        case,
        r"must not be negative|a.ne\[3\] is 8, must be c|b.ne\[3\] is 2, must be c",
    )


@pytest.mark.parametrize(
    ("length", "params", "message"),
    [
        ((5, 2), (0, 0, 1), "a stride is .*, must be >= 1"),
        ((5, 2), (1, 1, 1), "must be 0 and 1"),
        ((5, 2), (1, 0, 2), "must be 0 and 1"),
        ((5, 2, 2), (1, 0, 1), r"b's ne is \[5, 2, 2, 1\], must be a matrix"),
        ((5, 3), (1, 0, 1), r"a.ne\[2\] is 2, must equal b.ne\[1\], 3"),
    ],
)
def test_conv_transpose_1d_with_invalid_sources_is_refused(
    length: Sequence[int], params: tuple[int, int, int], message: str
) -> None:
    case = Case()
    a, b = case.leaf((3, 4, 2)), case.leaf(length)
    numbers = ConvTranspose1dParams(*params)
    case.node(Op.CONV_TRANSPOSE_1D, [a, b], (7, 4), params=numbers)
    assert_refused(case, message)


def test_conv_transpose_2d_of_other_channels_is_refused() -> None:
    case = Case()
    a, b = case.leaf((3, 3, 4, 2)), case.leaf((5, 5, 3))
    params = ConvTranspose2dParams(1)
    case.node(Op.CONV_TRANSPOSE_2D, [a, b], (7, 7, 4), params=params)
    assert_refused(case, r"a.ne\[3\] is 2, must equal b.ne\[2\], 3")
