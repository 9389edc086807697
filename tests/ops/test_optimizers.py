"""The contracts of OPT_STEP_ADAMW and OPT_STEP_SGD."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.ops.optimizers import GRAD, M, V
from tests.support.case import Case
from tests.support.cases.optimizers import adamw, sgd
from tests.support.contracts import assert_refused


@pytest.mark.parametrize("at", [GRAD, M, V])
def test_adamw_step_of_different_shapes_is_refused(at: int) -> None:
    case = Case()
    sources = [case.leaf((8, 3)) for _ in range(4)]
    sources[at] = case.leaf((8, 2))
    sources.append(case.leaf((7,)))
    case.node(Op.OPT_STEP_ADAMW, sources, (8, 3), inplace_over=sources[0])
    assert_refused(case, "a must have the shape of")


def test_adamw_step_with_too_few_parameters_is_refused() -> None:
    assert_refused(
        adamw((8,), np.zeros(6)), "the parameters have 6 elements, must have 7"
    )


def test_sgd_step_with_too_many_parameters_is_refused() -> None:
    assert_refused(
        sgd((8,), np.zeros(3)), "the parameters have 3 elements, must have 2"
    )


def test_sgd_step_that_is_not_in_place_is_refused() -> None:
    case = Case()
    sources = [case.leaf((8,)), case.leaf((8,)), case.leaf((2,))]
    case.node(Op.OPT_STEP_SGD, sources, (8,))
    assert_refused(case, "the result must be a view of a")
