"""WIN_PART, WIN_UNPART, GET_REL_POS, ADD_REL_POS: attention in windows of an image.

Source: the image encoder of "Segment Anything", arXiv 2304.02643.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, like, not_empty, same_shape
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

A, PW, PH = 0, 1, 2
F16 = frozenset({GGMLType.F16})
TWO_BYTES = frozenset({GGMLType.F16, GGMLType.BF16})


class WinPartParams(NamedTuple):
    """The number of windows in both dimensions (npx, npy), and their size (w)."""

    npx: int
    npy: int
    w: int


class WinUnpartParams(NamedTuple):
    """The size of a window in both dimensions."""

    w: int


class AddRelPosParams(NamedTuple):
    """1 if the result is a view of `a`, as its address also tells."""

    inplace: int


def _window_size(node: Node) -> str | None:
    return None if node.params.w > 0 else f"w is {node.params.w}, must be positive"


def _windows(ne: Dims, w: int) -> tuple[int, int]:
    """The number of windows that cover an image of ne[1] times ne[2]."""
    return -(-ne[1] // w), -(-ne[2] // w)


def _win_part_ne(node: Node) -> Dims:
    p = node.params
    return node.source(A).ne[0], p.w, p.w, p.npx * p.npy


def _counts(node: Node) -> str | None:
    a, p = node.source(A).ne, node.params
    if a[3] != 1:
        return f"a.ne[3] is {a[3]}, must be 1"
    counts = _windows(a, p.w)
    if (p.npx, p.npy) != counts:
        return (
            f"npx and npy are {p.npx} and {p.npy}, must be {counts[0]} and {counts[1]}"
        )
    return None


def _win_unpart_ne(node: Node) -> Dims:
    return node.source(A).ne[0], *node.tensor.ne[1:3], 1


def _has_all_windows(node: Node) -> str | None:
    a, w = node.source(A).ne, node.params.w
    npx, npy = _windows(node.tensor.ne, w)
    if a[1] == a[2] == w and a[3] >= npx * npy:
        return None
    return f"a's ne is {list(a)}, must be {npx * npy} windows of {w} x {w}"


def _rel_pos_ne(node: Node) -> Dims:
    channels, distances = node.source(A).ne[:2]
    return channels, (distances + 1) // 2, (distances + 1) // 2, 1


def _distances(node: Node) -> str | None:
    ne = node.source(A).ne
    if ne[1] % 2 and ne[2:] == (1, 1):
        return None
    return f"a's ne is {list(ne)}, must be a matrix with an odd number of rows"


def _rel_pos_fits(node: Node) -> str | None:
    a, p = node.source(A).ne, node.source(PW).ne
    ne = p[0] * p[0], p[1] * p[2], p[3], 1
    return None if a == ne else f"a's ne is {list(a)}, must be {list(ne)}"


define(
    Contract(
        Op.WIN_PART,
        (Source("a", F32),),
        F32,
        _win_part_ne,
        WinPartParams,
        (_window_size, _counts),
    ),
    Contract(
        Op.WIN_UNPART,
        (Source("a", F32),),
        F32,
        _win_unpart_ne,
        WinUnpartParams,
        (_window_size, _has_all_windows),
    ),
    Contract(
        Op.GET_REL_POS,
        (Source("a", TWO_BYTES),),
        F16,
        _rel_pos_ne,
        rules=(_distances, not_empty(A)),
    ),
    Contract(
        Op.ADD_REL_POS,
        (Source("a", F32), Source("pw", F32), Source("ph", F32)),
        F32,
        like(A),
        AddRelPosParams,
        (same_shape(PW, PH), _rel_pos_fits),
    ),
)
