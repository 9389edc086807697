"""The contracts of FILL, ARANGE, TIMESTEP_EMBEDDING."""

from __future__ import annotations

import math

import pytest

from ggrpc.op import Op
from ggrpc.ops.generators import ArangeParams, FillParams, TimestepEmbeddingParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    "params",
    [(0, 5, 1), (0, 4, 0), (0, 4, -1), (0, math.inf, 1), (math.nan, 4, 1), (4, 0, 1)],
)
def test_arange_with_a_wrong_number_of_steps_is_refused(
    params: tuple[float, float, float],
) -> None:
    case = Case()
    case.node(Op.ARANGE, [], (4,), params=ArangeParams(*params))
    assert_refused(case, r"values from|elements, must have \d+: from")


def test_arange_into_a_matrix_is_refused() -> None:
    case = Case()
    case.node(Op.ARANGE, [], (2, 2), params=ArangeParams(0, 4, 1))
    assert_refused(case, "the result has 2 rows, must have 1")


def test_fill_of_another_type_is_refused() -> None:
    case = Case()
    x = case.leaf((4,))
    case.node(Op.FILL, [x], x.ne, GGMLType.F16, FillParams(1))
    assert_refused(case, "the result must have the type of a")


@pytest.mark.parametrize("params", [(-2, 100), (4, 0)])
def test_timestep_embedding_with_invalid_parameters_is_refused(
    params: tuple[int, int],
) -> None:
    case = Case()
    timesteps = case.leaf((3,))
    embedding = TimestepEmbeddingParams(*params)
    case.node(Op.TIMESTEP_EMBEDDING, [timesteps], (4, 3), params=embedding)
    assert_refused(case, "must be >= 0 and > 0")
