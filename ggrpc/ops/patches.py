"""ACC and SET: patch a tensor, by adding to a part of it or replacing the part."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, RESULT, like, same_type
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

A, B = 0, 1


class PatchParams(NamedTuple):
    """The place of the part; its shape is that of `b`.

    Attributes:
        nb1, nb2, nb3: the strides of the part in bytes.
        offset: the offset of its first byte.
        inplace: 1 if the result is a view of `a`.
    """

    nb1: int
    nb2: int
    nb3: int
    offset: int
    inplace: int


def part_of(tensor: Tensor, b: Tensor, p: PatchParams) -> Tensor:
    """The part of `a` or of the result, as a tensor of the shape of `b`."""
    nb = (tensor.type.type_size, p.nb1, p.nb2, p.nb3)
    return tensor._replace(ne=b.ne, nb=nb, data=tensor.data + p.offset)


def _inside(node: Node) -> str | None:
    p, result = node.params, node.tensor
    part = part_of(result, node.source(B), p)
    if min(p[:4]) < 0 or p.offset + part.nbytes > result.nbytes:
        return (
            f"the part at offset {p.offset} with strides {list(p[:3])} must lie inside "
            f"a, {result.nbytes} bytes"
        )
    return None


def _contiguous(node: Node) -> str | None:
    if node.source(A).is_contiguous and node.tensor.is_contiguous:
        return None
    return "a and the result must be contiguous"


_rules = (same_type(A, B), same_type(A, RESULT), _contiguous, _inside)
_settable = frozenset({GGMLType.F32, GGMLType.I32})

define(
    Contract(
        Op.ACC, (Source("a", F32), Source("b", F32)), F32, like(A), PatchParams, _rules
    ),
    Contract(
        Op.SET,
        (Source("a", _settable), Source("b", _settable)),
        _settable,
        like(A),
        PatchParams,
        _rules,
    ),
)
