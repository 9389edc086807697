"""The contracts of POOL_1D, POOL_2D, POOL_2D_BACK."""

from __future__ import annotations

from typing import Any

import pytest

from ggrpc.op import Op
from ggrpc.ops.pooling import Pool1dParams, Pool2dParams, PoolOp
from tests.support.case import Case
from tests.support.contracts import assert_refused, check

PLAIN = Pool2dParams(PoolOp.MAX, 2, 2, 2, 2, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"op": 2}, "the pool op is 2, must be 0 to 1"),
        ({"s0": 0}, "a stride is .*, must be >= 1"),
        ({"s1": -1}, "a stride is .*, must be >= 1"),
        ({"k0": 4}, r"the result's ne is \[4, 3, 1, 1\], must be \[3, 3, 1, 1\]"),
    ],
)
def test_pool_with_invalid_parameters_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    case = Case()
    params = PLAIN._replace(**wrong)
    case.node(Op.POOL_2D, [case.leaf((8, 6))], (4, 3), params=params)
    assert_refused(case, message)


def test_pool_1d_without_a_stride_is_refused() -> None:
    case = Case()
    params = Pool1dParams(PoolOp.AVG, 2, 0, 0)
    case.node(Op.POOL_1D, [case.leaf((8,))], (4,), params=params)
    assert_refused(case, "a stride is .*, must be >= 1")


def test_pool_with_half_a_padding_is_accepted() -> None:
    """The padding is a float in ggml, but it is sent rounded down."""
    case = Case()
    params = PLAIN._replace(s0=1)
    case.node(Op.POOL_2D, [case.leaf((8, 6))], (8, 3), params=params)
    check(case)


def test_pool_back_with_too_few_gradients_is_refused() -> None:
    case = Case()
    grads, image = case.leaf((4, 2)), case.leaf((8, 6))
    case.node(Op.POOL_2D_BACK, [grads, image], image.ne, params=PLAIN)
    assert_refused(case, r"a's ne is \[4, 2, 1, 1\], must be \[4, 3, 1, 1\]")
