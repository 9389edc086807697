from __future__ import annotations

import json
from itertools import groupby

import pytest

from ggrpc.engine.wire.op_tables import (
    ADDITIONS,
    UNKNOWN,
    op_table,
    op_table_named,
)
from ggrpc.errors import ConfigError
from ggrpc.op import GluOp, Op, UnaryOp
from tests.support.paths import shared

ENUMS = {"op": Op, "unary": UnaryOp, "glu": GluOp}


def test_tables_are_those_that_were_published() -> None:
    published = json.loads(shared("protocol/enums.json").read_text())
    distinct = [
        next(same) for _, same in groupby(published, lambda t: [t[e] for e in ENUMS])
    ]
    assert len(distinct) == len(ADDITIONS)
    for name, expected in zip(ADDITIONS, distinct, strict=True):
        assert name.startswith(expected["since"])
        for field, enum in ENUMS.items():
            numbering = getattr(op_table(name), field)
            assert [enum(n).name for n in numbering.to_ours] == expected[field]


def test_names_of_tables_are_in_the_order_of_time() -> None:
    assert list(ADDITIONS) == sorted(ADDITIONS)


def test_numbers_translate_both_ways() -> None:
    table = op_table("2026-03-15")
    for op in Op:
        number = table.op.to_wire[op]
        assert number == UNKNOWN or table.op.to_ours[number] == op
    assert table.op.to_wire[Op.COL2IM_1D] == UNKNOWN


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2025-04-24", "2025-04-24"),
        ("2025-05-26", "2025-05-25b"),
        ("2025-07-01", "2025-07-01c"),
        ("2025-07-01a", "2025-07-01a"),
        ("2030-01-01", "2026-09-11"),
    ],
)
def test_day_names_the_table_that_held(text: str, name: str) -> None:
    assert op_table_named(text).date == name


@pytest.mark.parametrize("text", ["", "2024-01-01", "yesterday", "7.0.0", "2025"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="names no op table"):
        op_table_named(text)
