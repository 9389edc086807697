from __future__ import annotations

import json

import pytest

from ggrpc.engine.wire.dialects import DIALECTS, Dialect
from ggrpc.engine.wire.op_tables import UNKNOWN, op_table
from ggrpc.op import GluOp, Op, UnaryOp
from tests.support.paths import shared

ENUMS = {"op": Op, "unary": UnaryOp, "glu": GluOp}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: str(d.version))
@pytest.mark.parametrize("enum", ENUMS)
def test_table_is_that_of_the_published_version(dialect: Dialect, enum: str) -> None:
    tables = json.loads(shared("protocol/enums.json").read_text())
    expected = [t for t in tables if t["since"] <= dialect.op_table_date][-1]
    numbering = getattr(dialect.table, enum)
    assert [ENUMS[enum](n).name for n in numbering.to_ours] == expected[enum]


def test_numbers_translate_both_ways() -> None:
    table = op_table("2026-04-09")
    for op in Op:
        number = table.op.to_wire[op]
        assert number == UNKNOWN or table.op.to_ours[number] == op
    assert table.op.to_wire[Op.COL2IM_1D] == UNKNOWN
