"""The contract of ROPE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.rope import PLAIN, rope
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": 1}, "mode is 1, must be one of"),
        ({"mode": 4}, "mode is 4, must be one of"),
        ({"n_dims": 63}, "n_dims is 63, must be even and 2 to"),
        ({"n_dims": 0}, "n_dims is 0, must be even and 2 to"),
        ({"n_dims": -2}, "n_dims is -2, must be even and 2 to"),
        ({"n_dims": 66}, r"n_offs \+ n_dims is 66, must be at most"),
        ({"n_offs": 2}, r"n_offs \+ n_dims is 66, must be at most"),
        ({"n_offs": -2, "n_dims": 32}, "n_offs is -2, must be even and >= 0"),
        ({"mode": 8}, r"the sections are \[0, 0, 0, 0\], must add up to"),
        ({"mode": 8, "section_t": 65}, "must add up to 1 to 64"),
        ({"mode": 8, "section_t": -1, "section_h": 9}, "must add up to 1 to 64"),
        ({"mode": 24, "section_t": 8}, r"n_offs is 0, must be half of a.ne\[0\], 64"),
    ],
)
def test_rope_with_invalid_parameters_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    assert_refused(rope(PLAIN._replace(**wrong)), message)


@pytest.mark.parametrize(("mode", "count"), [(0, 3), (8, 4)])
def test_rope_with_too_few_positions_is_refused(mode: int, count: int) -> None:
    case = Case()
    x, pos = case.leaf((64, 2, 4)), case.leaf(np.arange(count), GGMLType.I32)
    params = PLAIN._replace(mode=mode, section_t=32)
    case.node(Op.ROPE, [x, pos], x.ne, params=params)
    assert_refused(case, "pos's ne is .*, must be")


def test_rope_with_too_few_factors_is_refused() -> None:
    case = Case()
    x, pos = case.leaf((64, 2, 1)), case.leaf(np.arange(1), GGMLType.I32)
    case.node(Op.ROPE, [x, pos, case.leaf((31,))], x.ne, params=PLAIN)
    assert_refused(case, "freq_factors has 31 elements, must have at least 32")


def test_rope_of_rows_with_gaps_is_refused() -> None:
    case = Case()
    x = case.permute(case.leaf((1, 2, 64)), 2, 1, 0, 3)
    pos = case.leaf(np.arange(1), GGMLType.I32)
    case.node(Op.ROPE, [x, pos], x.ne, params=PLAIN)
    assert_refused(case, r"a.nb\[0\] is 8, must be 4: rows without gaps")
