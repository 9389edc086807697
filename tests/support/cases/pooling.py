"""Cases of POOL_1D, POOL_2D, POOL_2D_BACK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.ops.pooling import Pool1dParams, Pool2dParams, PoolOp
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16 = GGMLType.F32, GGMLType.F16

WINDOWS_1D = ((1, 1, 0), (2, 2, 1), (3, 1, 1), (3, 2, 0), (1, 3, 3), (10, 10, 0))
# Of each dimension the size, the stride and the padding.
WINDOWS_2D = {
    "plain": ((3, 3, 0), (3, 3, 0)),
    "overlapping": ((3, 1, 1), (3, 2, 1)),
    "apart": ((1, 2, 0), (2, 3, 0)),
    "padded": ((2, 2, 1), (3, 1, 2)),
    "in_the_padding": ((1, 1, 2), (1, 2, 1)),
    "whole": ((10, 10, 0), (9, 9, 0)),
}


def cases() -> Iterator[tuple[str, Case]]:
    for op in PoolOp:
        for window in WINDOWS_1D:
            label = "_".join(map(str, window))
            yield f"POOL_1D-{op.name}-{label}", pool_1d(op, window)
        yield f"POOL_1D-{op.name}-F16", pool_1d(op, (3, 2, 1), type=F16)
        yield f"POOL_1D-{op.name}-large", pool_1d(op, (3, 2, 1), (3001, 100))
        for name, windows in WINDOWS_2D.items():
            yield f"POOL_2D-{op.name}-{name}", pool_2d(op, windows)
            yield f"POOL_2D_BACK-{op.name}-{name}", pool_2d_back(op, windows)
        overlapping = WINDOWS_2D["overlapping"]
        yield f"POOL_2D-{op.name}-F16", pool_2d(op, overlapping, type=F16)
        yield f"POOL_2D-{op.name}-large", pool_2d(op, overlapping, (300, 200, 3))
        yield f"POOL_2D-{op.name}-half_padding", half_padding(op)


def outputs(ne: int, window: Sequence[int]) -> int:
    k, s, p = window
    return (ne + 2 * p - k) // s + 1


def pool_1d(
    op: PoolOp,
    window: Sequence[int],
    ne: Sequence[int] = (10, 3, 2, 2),
    type: GGMLType = F32,
) -> Case:
    case = Case()
    x = case.leaf(ne, type)
    result = (outputs(ne[0], window), *ne[1:])
    case.node(Op.POOL_1D, [x], result, params=Pool1dParams(op, *window))
    return case


def params_2d(op: PoolOp, windows: Sequence[Sequence[int]]) -> Pool2dParams:
    (k0, s0, p0), (k1, s1, p1) = windows
    return Pool2dParams(op, k0, k1, s0, s1, p0, p1)


def pool_2d(
    op: PoolOp,
    windows: Sequence[Sequence[int]],
    ne: Sequence[int] = (10, 9, 3, 2),
    type: GGMLType = F32,
) -> Case:
    case = Case()
    x = case.leaf(ne, type)
    result = (outputs(ne[0], windows[0]), outputs(ne[1], windows[1]), *ne[2:])
    case.node(Op.POOL_2D, [x], result, params=params_2d(op, windows))
    return case


def half_padding(op: PoolOp) -> Case:
    """The client counted windows with a padding of 1.5, and sent 1."""
    case = Case()
    x = case.leaf((10, 9, 3))
    params = params_2d(op, ((3, 1, 1), (3, 2, 1)))
    case.node(Op.POOL_2D, [x], (11, 5, 3), params=params)
    return case


def pool_2d_back(op: PoolOp, windows: Sequence[Sequence[int]]) -> Case:
    case = Case()
    ne = (10, 9, 3, 2)
    grads = case.leaf((outputs(10, windows[0]), outputs(9, windows[1]), 3, 2))
    x = case.leaf(ne)
    case.node(Op.POOL_2D_BACK, [grads, x], ne, params=params_2d(op, windows))
    return case
