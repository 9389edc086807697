"""Cases of WIN_PART, WIN_UNPART, GET_REL_POS, ADD_REL_POS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.ops.windows import AddRelPosParams, WinPartParams, WinUnpartParams
from ggrpc.types import GGMLType
from tests.support.case import Case

F16, BF16 = GGMLType.F16, GGMLType.BF16

# Channels, width, height, size of a window.
IMAGES = {
    "whole": (5, 12, 8, 4),
    "cut": (5, 13, 10, 4),
    "smaller": (5, 3, 2, 4),
    "cut_below": (3, 12, 9, 4),
    "large": (64, 61, 45, 14),
}


def cases() -> Iterator[tuple[str, Case]]:
    for name, sizes in IMAGES.items():
        yield f"WIN_PART-{name}", win_part(*sizes)
        yield f"WIN_UNPART-{name}", win_unpart(*sizes)
    for type in (F16, BF16):
        yield f"GET_REL_POS-{type.name}", get_rel_pos(type)
    for name, ne in {"odd": (5, 3, 4, 2), "large": (14, 14, 14, 60)}.items():
        yield f"ADD_REL_POS-{name}", add_rel_pos(ne, in_place=False)
        yield f"ADD_REL_POS-{name}-in_place", add_rel_pos(ne, in_place=True)


def win_part(channels: int, width: int, height: int, w: int) -> Case:
    case = Case()
    npx, npy = -(-width // w), -(-height // w)
    x = case.leaf((channels, width, height))
    params = WinPartParams(npx, npy, w)
    case.node(Op.WIN_PART, [x], (channels, w, w, npx * npy), params=params)
    return case


def win_unpart(channels: int, width: int, height: int, w: int) -> Case:
    case = Case()
    x = case.leaf((channels, w, w, -(-width // w) * -(-height // w)))
    ne = (channels, width, height)
    case.node(Op.WIN_UNPART, [x], ne, params=WinUnpartParams(w))
    return case


def get_rel_pos(type: GGMLType) -> Case:
    case = Case()
    case.node(Op.GET_REL_POS, [case.leaf((6, 13), type)], (6, 7, 7), F16)
    return case


def add_rel_pos(ne: Sequence[int], in_place: bool) -> Case:
    case = Case()
    n, rows, columns, heads = ne
    a = case.leaf((n * n, rows * columns, heads))
    pw, ph = case.leaf(ne), case.leaf(ne)
    over = a if in_place else None
    params = AddRelPosParams(int(in_place))
    case.node(Op.ADD_REL_POS, [a, pw, ph], a.ne, params=params, inplace_over=over)
    return case
