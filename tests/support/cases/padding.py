"""Cases of PAD, PAD_REFLECT_1D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.ops.padding import PadParams, PadReflectParams
from ggrpc.tensor import Tensor
from tests.support.case import Case

BEHIND = (0, 3, 0, 1, 0, 0, 0, 0)
ALL = (1, 2, 3, 4, 5, 6, 7, 8)
CUT = (-2, 3, 0, -1, 1, 1, 0, 0)


def cases() -> Iterator[tuple[str, Case]]:
    for circular in (0, 1):
        label = "circular" if circular else "zeros"
        for name, padding in {"behind": BEHIND, "all": ALL}.items():
            yield f"PAD-{label}-{name}", pad((11, 7, 5, 9), padding, circular)
        yield f"PAD-{label}-none", pad((11, 7), (0,) * 8, circular)
        yield f"PAD-{label}-large", pad((512, 300), (50, 1, 2, 3, 0, 0, 0, 0), circular)
        yield f"PAD-{label}-permuted", permuted((1, 2, 3, 4, 0, 1, 0, 0), circular)
        yield f"PAD-{label}-gaps", gaps((1, 2, 3, 4, 0, 1, 0, 0), circular)
    yield "PAD-zeros-cut", pad((11, 7, 5), CUT, 0)
    yield "PAD-zeros-of_nothing", pad((11, 0), (1, 1, 2, 0, 0, 0, 0, 0), 0)
    yield "PAD_REFLECT_1D-both", reflected((12, 5, 3), 11, 9)
    yield "PAD_REFLECT_1D-one", reflected((12, 5), 0, 3)
    yield "PAD_REFLECT_1D-none", reflected((12, 5), 0, 0)
    yield "PAD_REFLECT_1D-large", reflected((3000, 80), 10, 7)


def pad(ne: Sequence[int], padding: Sequence[int], circular: int) -> Case:
    case = Case()
    add(case, case.leaf(ne), padding, circular)
    return case


def add(case: Case, x: Tensor, padding: Sequence[int], circular: int) -> None:
    pairs = zip(x.ne, padding[::2], padding[1::2], strict=True)
    ne = [n + lp + rp for n, lp, rp in pairs]
    case.node(Op.PAD, [x], ne, params=PadParams(*padding, circular))


def permuted(padding: Sequence[int], circular: int) -> Case:
    case = Case()
    x = case.permute(case.leaf((6, 9, 4, 2)), 2, 1, 0, 3)
    add(case, x, padding, circular)
    return case


def gaps(padding: Sequence[int], circular: int) -> Case:
    case = Case()
    wide = case.leaf((16, 9, 4))
    x = case.view(wide, (7, 5, 4), (4, 64, 576), offset=20)
    add(case, x, padding, circular)
    return case


def reflected(ne: Sequence[int], p0: int, p1: int) -> Case:
    case = Case()
    x = case.leaf(ne)
    params = PadReflectParams(p0, p1)
    case.node(Op.PAD_REFLECT_1D, [x], (x.ne[0] + p0 + p1, *x.ne[1:]), params=params)
    return case
