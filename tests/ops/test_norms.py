"""The contracts of NORM, RMS_NORM, L2_NORM, GROUP_NORM."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.norms import GroupNormParams, NormParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize("op", [Op.NORM, Op.RMS_NORM, Op.L2_NORM])
@pytest.mark.parametrize("eps", [-1e-5, float("nan")])
def test_eps_below_zero_is_refused(op: Op, eps: float) -> None:
    case = Case()
    case.node(op, [case.leaf((4,))], (4,), params=NormParams(eps))
    assert_refused(case, "eps is .*, must be >= 0")


@pytest.mark.parametrize("n_groups", [0, -3])
def test_group_norm_without_groups_is_refused(n_groups: int) -> None:
    case = Case()
    x = case.leaf((4, 4, 4))
    case.node(Op.GROUP_NORM, [x], x.ne, params=GroupNormParams(n_groups, 1e-5))
    assert_refused(case, "n_groups is .*, must be > 0")
