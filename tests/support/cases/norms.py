"""Cases of NORM, RMS_NORM, L2_NORM, GROUP_NORM."""

from __future__ import annotations

from collections.abc import Iterator

from ggrpc.op import Op
from ggrpc.ops.norms import GroupNormParams, NormParams
from tests.support.case import Case

OPS = (Op.NORM, Op.RMS_NORM, Op.L2_NORM)
SHAPES = {
    "one_row": (2048,),
    "odd": (67, 5, 3, 2),
    "single": (1, 4),
    "large": (512, 300),
}
GROUPS = {
    "even": ((7, 5, 12, 2), 4),
    "smaller_last": ((7, 5, 11), 4),
    "fewer_channels": ((7, 5, 3), 4),
    "large": ((64, 64, 64), 32),
}


def cases() -> Iterator[tuple[str, Case]]:
    for op in OPS:
        for name, ne in SHAPES.items():
            case = Case()
            x = case.leaf(ne)
            case.node(op, [x], x.ne, params=NormParams(1e-5))
            yield f"{op.name}-{name}", case
        yield f"{op.name}-in_place", in_place(op)
        yield f"{op.name}-heads", heads(op)
        yield f"{op.name}-zeros", zeros(op)
    for name, (ne, n_groups) in GROUPS.items():
        case = Case()
        x = case.leaf(ne)
        case.node(Op.GROUP_NORM, [x], x.ne, params=GroupNormParams(n_groups, 1e-5))
        yield f"GROUP_NORM-{name}", case
    yield "GROUP_NORM-gaps", groups_with_gaps()


def in_place(op: Op) -> Case:
    case = Case()
    x = case.leaf((100, 3))
    case.node(op, [x], x.ne, params=NormParams(1e-6), inplace_over=x)
    return case


def heads(op: Op) -> Case:
    """Parts of longer rows, as of the queries in a fused projection."""
    case = Case()
    wide = case.leaf((192, 5))
    x = case.view(wide, (32, 4, 5), (4, 128, 768), offset=128)
    case.node(op, [x], x.ne, params=NormParams(1e-5))
    return case


def zeros(op: Op) -> Case:
    case = Case()
    wide = case.leaf((8, 2))
    x = case.node(Op.SUB, [wide, wide], wide.ne)
    case.node(op, [x], x.ne, params=NormParams(1e-5))
    return case


def groups_with_gaps() -> Case:
    case = Case()
    wide = case.leaf((64, 5, 6))
    x = case.view(wide, (20, 5, 6), wide.nb[:3], offset=16)
    case.node(Op.GROUP_NORM, [x], x.ne, params=GroupNormParams(3, 1e-5))
    return case
