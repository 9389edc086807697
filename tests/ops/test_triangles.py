"""The contracts of DIAG, DIAG_MASK_INF, TRI, SOLVE_TRI."""

from __future__ import annotations

from ggrpc.op import Op
from ggrpc.ops.triangles import DiagMaskParams, TriParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


def test_diag_of_a_matrix_is_refused() -> None:
    case = Case()
    case.node(Op.DIAG, [case.leaf((4, 2))], (4, 4))
    assert_refused(case, r"a.ne\[1\] is 2, must be 1")


def test_mask_with_a_negative_past_is_refused() -> None:
    case = Case()
    x = case.leaf((4, 4))
    case.node(Op.DIAG_MASK_INF, [x], x.ne, params=DiagMaskParams(-1))
    assert_refused(case, "n_past is -1, must be >= 0")


def test_unknown_triangle_is_refused() -> None:
    case = Case()
    x = case.leaf((4, 4))
    case.node(Op.TRI, [x], x.ne, params=TriParams(4))
    assert_refused(case, "type is 4, must be 0 to 3")


def test_triangle_of_a_rectangle_is_refused() -> None:
    case = Case()
    x = case.leaf((4, 3))
    case.node(Op.TRI, [x], x.ne, params=TriParams(0))
    assert_refused(case, r"a's ne is \[4, 3, 1, 1\], must be square")


def test_solve_tri_with_other_rows_is_refused() -> None:
    case = Case()
    a, b = case.leaf((4, 4)), case.leaf((2, 3))
    case.node(Op.SOLVE_TRI, [a, b], b.ne)
    assert_refused(case, r"a.ne\[1\] is 4, must equal b.ne\[1\], 3")
