"""MUL_MAT_ID and ADD_ID: mixture of experts. Indices select matrices or rows."""

from __future__ import annotations

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.matmul import FACTORS
from ggrpc.ops.rules import F32, I32, equal, like, multiple, not_empty
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED

AS, A, B, IDS = 0, 0, 1, 2
MAX_EXPERTS = 1 << 16  # each costs a call; models have hundreds


def _mul_mat_id_ne(node: Node) -> Dims:
    return node.source(AS).ne[1], node.source(IDS).ne[0], node.source(B).ne[2], 1


def _three_dimensions(node: Node) -> str | None:
    a, b = node.source(AS).ne[3], node.source(B).ne[3]
    if a == b == 1:
        return None
    return f"as.ne[3] is {a} and b.ne[3] is {b}, must both be 1"


def _limit_experts(node: Node) -> str | None:
    experts, chosen = node.source(AS).ne[2], node.source(IDS).ne[0]
    if max(experts, chosen) <= MAX_EXPERTS:
        return None
    return f"uses {chosen} of {experts} experts, must be at most {MAX_EXPERTS}"


def _ids_matrix(node: Node) -> str | None:
    ne = node.source(IDS).ne
    return None if ne[2:] == (1, 1) else f"ids's ne is {list(ne)}, must be a matrix"


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
            _ids_matrix,
            _limit_experts,
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
