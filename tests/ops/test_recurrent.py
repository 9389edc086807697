"""The contracts of SSM_CONV and SSM_SCAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.ops.recurrent import SsmScanParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.recurrent import scan_without_heads
from tests.support.contracts import assert_refused, check

# d_state 16, dim 8, 6 heads, 2 groups, 5 tokens, 3 sequences, 4 states
SHAPES: dict[str, Sequence[int]] = {
    "s": (16, 8, 6, 4),
    "x": (8, 6, 5, 3),
    "dt": (6, 5, 3),
    "A": (1, 6),
    "B": (16, 2, 5, 3),
    "C": (16, 2, 5, 3),
    "ids": (3,),
}


@pytest.mark.parametrize(
    ("sx", "c", "message"),
    [
        ((7, 5), (4, 6), r"c's ne is \[4, 6, 1, 1\], must be \[4, 5, 1, 1\]"),
        ((7, 5), (4, 5, 2), "c's ne is"),
        ((7, 5, 1, 2), (4, 5), "sx's ne is"),
        ((2, 5), (4, 5), r"c.ne\[0\] is 4, must be 1 to 3"),
        ((2, 5), (0, 5), r"c.ne\[0\] is 0, must be 1 to 3"),
    ],
)
def test_ssm_conv_with_invalid_sources_is_refused(
    sx: Sequence[int], c: Sequence[int], message: str
) -> None:
    case = Case()
    case.node(Op.SSM_CONV, [case.leaf(sx), case.leaf(c)], (5, 4))
    assert_refused(case, message)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"s": (16, 7, 6, 4)}, r"s.ne\[1\] is 7, must equal x.ne\[0\], 8"),
        ({"s": (16, 8, 5, 4)}, r"s.ne\[2\] is 5, must equal x.ne\[1\], 6"),
        ({"dt": (6, 4, 3)}, "dt's ne is"),
        ({"A": (1, 5)}, "A's ne is"),
        ({"A": (15, 6)}, r"A.ne\[0\] is 15, must be 1 or s.ne\[0\], 16"),
        ({"B": (15, 2, 5, 3)}, r"B.ne\[0\] is 15, must equal s"),
        ({"B": (16, 2, 4, 3)}, r"B.ne\[2\] is 4, must equal x"),
        ({"B": (16, 2, 5, 2)}, r"B.ne\[3\] is 2, must equal x"),
        ({"C": (16, 3, 5, 3)}, "C must have the shape of B"),
        ({"B": (16, 4, 5, 3), "C": (16, 4, 5, 3)}, "must be a multiple of B"),
        ({"B": (16, 0, 5, 3), "C": (16, 0, 5, 3)}, "must be a multiple of B"),
        ({"ids": (2,)}, r"ids's ne is \[2, 1, 1, 1\], must be \[3, 1, 1, 1\]"),
        ({"k": -1}, "K is -1"),
        ({"k": 2, "A": (16, 6)}, "K is 2"),
        ({"size": 720 + 2304 + 1}, "the result's ne is .*, must be"),
    ],
)
def test_ssm_scan_with_invalid_sources_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    case = Case()
    k, size = wrong.pop("k", 1), wrong.pop("size", 720 + 2304)
    shapes = {**SHAPES, **wrong}
    ids = np.zeros(shapes.pop("ids"))
    sources = [case.leaf(ne) for ne in shapes.values()]
    sources.append(case.leaf(ids, GGMLType.I32))
    case.node(Op.SSM_SCAN, sources, (size,), params=SsmScanParams(k))
    assert_refused(case, message)


def test_ssm_scan_with_heads_but_no_ids_is_refused() -> None:
    case = Case()
    sources = [case.leaf(ne) for name, ne in SHAPES.items() if name != "ids"]
    case.node(Op.SSM_SCAN, sources, (720 + 2304,), params=SsmScanParams(1))
    assert_refused(case, "source ids is missing")


def test_ssm_scan_without_heads_has_a_state_for_each_sequence() -> None:
    case = scan_without_heads(16, 6, 5, 3)
    check(case)
    case.tensors[0] = case.tensors[0]._replace(ne=(16, 6, 4, 1))
    assert_refused(case, "s has 4 states, must have 3, one for each sequence")
