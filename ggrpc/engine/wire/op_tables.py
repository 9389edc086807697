"""How the protocol versions number the ops.

The number on the wire is the `enum ggml_op` value of the client's build. ggml inserts
new ops where they fit, so that all behind them move. `Op`, `UnaryOp` and `GluOp` are
the newest tables; an older one lacks what was added after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from ggrpc.op import GluOp, Op, UnaryOp

# What ggml added, and on which day. A table is dated by the last addition it holds.
ADDITIONS: tuple[tuple[str, IntEnum], ...] = (
    ("2026-06-11", Op.COL2IM_1D),
    ("2026-07-17", Op.LIGHTNING_INDEXER),
    ("2026-07-17", Op.DSV4_HC_COMB),
    ("2026-07-17", Op.DSV4_HC_PRE),
    ("2026-07-17", Op.DSV4_HC_POST),
    ("2026-09-11", GluOp.SWIGLU_CLAMP),
)
UNKNOWN = -1

Numbers = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, eq=False)
class Numbering:
    """One enum in one table: arrays that translate both ways, UNKNOWN for no such."""

    to_ours: Numbers
    to_wire: Numbers

    @classmethod
    def of(cls, members: list[IntEnum], count: int) -> Numbering:
        """Number `members` in order, out of an enum of `count` members."""
        to_ours = np.array([int(m) for m in members], np.int32)
        to_wire = np.full(count, UNKNOWN, np.int32)
        to_wire[to_ours] = np.arange(len(members))
        return cls(to_ours, to_wire)


@dataclass(frozen=True, eq=False)
class OpTable:
    """The numbers of ops and sub-operations as of a day."""

    date: str
    op: Numbering
    unary: Numbering
    glu: Numbering


@cache
def op_table(date: str) -> OpTable:
    """The table that held on a day, as YYYY-MM-DD."""
    later = [member for added, member in ADDITIONS if added > date]

    def numbering(enum: type[IntEnum]) -> Numbering:
        missing = {m.name for m in later if type(m) is enum}
        return Numbering.of([m for m in enum if m.name not in missing], len(enum))

    return OpTable(date, numbering(Op), numbering(UnaryOp), numbering(GluOp))
