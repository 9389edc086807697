"""Op tables: the numbers that the ops had on the wire at each date of ggml's history.

The op number on the wire is the `enum ggml_op` value of the client's build. ggml adds
new ops in the middle of the enum, which renumbers all ops after them. `Op`, `UnaryOp`
and `GluOp` are the newest table; an older table lacks the later additions. A table is
named after the date of its last addition, with a letter if a date had several.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date as Date  # noqa: N812  a table has a field `date`
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from ggrpc.errors import ConfigError
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.types import GGMLType

FIRST = "2025-04-24"

ADDITIONS: dict[str, tuple[IntEnum, ...]] = {
    FIRST: (),
    "2025-05-25a": (UnaryOp.GELU_ERF,),
    "2025-05-25b": (),
    "2025-06-18": (Op.ROLL,),
    "2025-07-01a": (Op.SET_ROWS,),
    "2025-07-01b": (Op.GLU, GluOp.REGLU, GluOp.GEGLU, GluOp.SWIGLU),
    "2025-07-01c": (Op.CONV_2D,),
    "2025-07-12": (GluOp.GEGLU_ERF, GluOp.GEGLU_QUICK),
    "2025-08-14a": (Op.ADD_ID, GluOp.SWIGLU_OAI),
    "2025-08-14b": (Op.OPT_STEP_SGD,),
    "2025-09-05a": (Op.CONV_3D,),
    "2025-09-05b": (Op.IM2COL_3D,),
    "2025-10-12": (UnaryOp.XIELU,),
    "2025-10-21": (UnaryOp.FLOOR, UnaryOp.CEIL, UnaryOp.ROUND, UnaryOp.TRUNC),
    "2025-11-17": (
        *(Op.CUMSUM, Op.TRI, Op.FILL, Op.SOLVE_TRI),
        *(UnaryOp.EXPM1, UnaryOp.SOFTPLUS),
    ),
    "2025-12-11": (Op.TOP_K,),
    "2026-03-15": (Op.GATED_DELTA_NET,),
    "2026-06-11": (Op.COL2IM_1D,),
    "2026-07-17a": (Op.LIGHTNING_INDEXER,),
    "2026-07-17b": (Op.DSV4_HC_COMB, Op.DSV4_HC_PRE, Op.DSV4_HC_POST),
    "2026-09-11": (GluOp.SWIGLU_CLAMP,),
}

# For some hours GELU_ERF was before GELU_QUICK in the enum, and RELU at the end.
SHUFFLED = {
    "2025-05-25a": (
        *(UnaryOp.ABS, UnaryOp.SGN, UnaryOp.NEG, UnaryOp.STEP, UnaryOp.TANH),
        *(UnaryOp.ELU, UnaryOp.SIGMOID, UnaryOp.GELU, UnaryOp.GELU_ERF),
        *(UnaryOp.GELU_QUICK, UnaryOp.SILU, UnaryOp.HARDSWISH),
        *(UnaryOp.HARDSIGMOID, UnaryOp.EXP, UnaryOp.RELU),
    )
}

UNKNOWN = -1

# The types added after the first op table, and the first table that has each.
TYPES_SINCE = {
    GGMLType.MXFP4: "2025-08-14a",
    GGMLType.NVFP4: "2026-06-11",
    GGMLType.Q1_0: "2026-06-11",
    GGMLType.Q2_0: "2026-07-17b",
}

Numbers = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, eq=False)
class Numbering:
    """Arrays that translate the numbers of one enum; UNKNOWN for missing members."""

    to_ours: Numbers
    to_wire: Numbers

    @classmethod
    def of(cls, members: list[IntEnum], count: int) -> Numbering:
        """Number `members` in order; the whole enum has `count` members."""
        to_ours = np.array([int(m) for m in members], np.int32)
        to_wire = np.full(count, UNKNOWN, np.int32)
        to_wire[to_ours] = np.arange(len(members))
        return cls(to_ours, to_wire)


@dataclass(frozen=True, eq=False)
class OpTable:
    """The numbers of ops and sub-operations on a date."""

    date: str
    op: Numbering
    unary: Numbering
    glu: Numbering

    def has(self, member: Op | UnaryOp | GluOp) -> bool:
        """Whether the table has an op or a sub-operation."""
        return self.number(member) != UNKNOWN

    def has_type(self, type: GGMLType) -> bool:
        """Whether builds of llama.cpp from the table's date know a type."""
        return TYPES_SINCE.get(type, "") <= self.date

    def number(self, member: Op | UnaryOp | GluOp) -> int:
        """The number of an op or a sub-operation, or UNKNOWN."""
        numberings = {Op: self.op, UnaryOp: self.unary, GluOp: self.glu}
        return int(numberings[type(member)].to_wire[member])


@cache
def op_table(date: str) -> OpTable:
    """The table with one of the names in ADDITIONS."""
    later = [m for day, added in ADDITIONS.items() if day > date for m in added]

    def numbering(enum: type[IntEnum]) -> Numbering:
        missing = {m.name for m in later if type(m) is enum}
        return Numbering.of([m for m in enum if m.name not in missing], len(enum))

    unary = numbering(UnaryOp)
    if date in SHUFFLED:
        unary = Numbering.of(list(SHUFFLED[date]), len(UnaryOp))
    return OpTable(date, numbering(Op), unary, numbering(GluOp))


def _is_date(text: str) -> bool:
    try:
        return Date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def op_table_named(text: str) -> OpTable:
    """The table in use on a date, or the table with exactly this name.

    Args:
        text: a date such as 2025-07-20, or a name such as 2025-07-01b.

    Raises:
        ConfigError: the text is not a date, or earlier than the first table.
    """
    # A name with a letter sorts after the bare date, and ~ sorts after every letter.
    last = text if text in ADDITIONS else text + "~"
    known = [name for name in ADDITIONS if name <= last]
    if not known or not (text in ADDITIONS or _is_date(text)):
        raise ConfigError(
            f"'{text}' names no op table: write a date from {FIRST} on, such as "
            f"{max(ADDITIONS)[:10]}"
        )
    return op_table(known[-1])
