"""The contracts of ACC and SET."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.patches import PatchParams
from tests.support.case import Case
from tests.support.contracts import assert_refused, check


def patch(op: Op, *params: int) -> Case:
    case = Case()
    a, b = case.leaf((8, 6)), case.leaf((4, 2))
    case.node(op, [a, b], a.ne, params=PatchParams(*params, inplace=0))
    return case


@pytest.mark.parametrize("op", [Op.ACC, Op.SET], ids=lambda op: op.name)
@pytest.mark.parametrize(
    "params",
    [(32, 192, 192, 148), (160, 192, 192, 32), (-32, 0, 0, 64), (32, 0, 0, -4)],
)
def test_patch_outside_its_target_is_refused(op: Op, params: tuple[int, ...]) -> None:
    assert_refused(patch(op, *params), "must lie inside a, 192 bytes")


@pytest.mark.parametrize("op", [Op.ACC, Op.SET], ids=lambda op: op.name)
def test_patch_up_to_the_end_is_accepted(op: Op) -> None:
    check(patch(op, 32, 192, 192, 144))


def test_patch_with_gaps_is_refused() -> None:
    case = Case()
    wide, b = case.leaf((8, 6)), case.leaf((2,))
    a = case.view(wide, (4, 6), wide.nb[:2])
    params = PatchParams(16, 96, 96, 0, inplace=0)
    case.node(Op.SET, [a, b], a.ne, params=params)
    assert_refused(case, "must be contiguous")
