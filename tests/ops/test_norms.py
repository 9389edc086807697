"""The contracts of NORM, RMS_NORM, L2_NORM."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.norms import NormParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize("op", [Op.NORM, Op.RMS_NORM, Op.L2_NORM])
@pytest.mark.parametrize("eps", [-1e-5, float("nan")])
def test_eps_below_zero_is_refused(op: Op, eps: float) -> None:
    case = Case()
    case.node(op, [case.leaf((4,))], (4,), params=NormParams(eps))
    assert_refused(case, "eps is .*, must be >= 0")
