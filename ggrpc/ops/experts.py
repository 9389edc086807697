"""MUL_MAT_ID and ADD_ID: each token has chosen the matrices, or rows, that it wants."""

from __future__ import annotations

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.matmul import FACTORS
from ggrpc.ops.rules import F32, I32, equal, like, multiple, not_empty
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED

AS, A, B, IDS = 0, 0, 1, 2
MAX_EXPERTS = 1 << 16  # each of which costs a call; models have hundreds


def _mul_mat_id_ne(node: Node) -> Dims:
    return node.source(AS).ne[1], node.source(IDS).ne[0], node.source(B).ne[2], 1


def _three_dimensions(node: Node) -> str | None:
    if node.source(AS).ne[3] == node.source(B).ne[3] == 1:
        return None
    return "as and b may have 3 dimensions"


def _few(node: Node) -> str | None:
    experts, chosen = node.source(AS).ne[2], node.source(IDS).ne[0]
    if max(experts, chosen) <= MAX_EXPERTS:
        return None
    return f"{chosen} of {experts} experts are chosen, {MAX_EXPERTS} can be"


def _list_a_token(node: Node) -> str | None:
    return None if node.source(IDS).ne[2:] == (1, 1) else "ids is no matrix"


def _mul_mat_id_flops(node: Node) -> int:
    return 2 * node.tensor.nelements * node.source(AS).ne[0]


define(
    Contract(
        Op.MUL_MAT_ID,
        (
            Source("as", FLOATS | QUANTIZED),
            Source("b", FACTORS),
            Source("ids", I32, index=True),
        ),
        F32,
        _mul_mat_id_ne,
        rules=(
            _three_dimensions,
            _list_a_token,
            _few,
            equal((AS, 0), (B, 0)),
            equal((IDS, 1), (B, 2)),
            multiple((IDS, 0), (B, 1)),
        ),
        flops=_mul_mat_id_flops,
    ),
    Contract(
        Op.ADD_ID,
        (Source("a", F32), Source("b", F32), Source("ids", I32, index=True)),
        F32,
        like(A),
        rules=(
            equal((A, 0), (B, 0)),
            equal((A, 1), (IDS, 0)),
            equal((A, 2), (IDS, 1)),
            not_empty(B),
            not_empty(IDS),
        ),
    ),
)
