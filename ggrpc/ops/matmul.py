"""MUL_MAT and OUT_PROD: products of rows, and outer products."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, equal, multiple
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

A, B = 0, 1

# Floats, and the types that ggml's CPU backend converts them to for quantized products.
FACTORS = FLOATS | {GGMLType.Q8_0, GGMLType.Q8_1, GGMLType.Q8_K}


class MulMatParams(NamedTuple):
    """Hints on how to compute the product.

    Attributes:
        prec: 10 for float32 accumulation.
        hint: 1 if `a` is a Hadamard matrix.
    """

    prec: int
    hint: int


def _out_prod_ne(node: Node) -> Dims:
    a, b = node.source(A), node.source(B)
    return a.ne[0], b.ne[0], *b.ne[2:]


def _ne(node: Node) -> Dims:
    a, b = node.source(A), node.source(B)
    return a.ne[1], *b.ne[1:]


def _mul_mat_flops(node: Node) -> int:
    return 2 * node.tensor.nelements * node.source(A).ne[0]


def _out_prod_flops(node: Node) -> int:
    return 2 * node.tensor.nelements * node.source(A).ne[1]


define(
    Contract(
        Op.MUL_MAT,
        (Source("a", FLOATS | QUANTIZED), Source("b", FACTORS)),
        F32,
        _ne,
        MulMatParams,
        rules=(
            equal((A, 0), (B, 0)),
            multiple((B, 2), (A, 2)),
            multiple((B, 3), (A, 3)),
        ),
        flops=_mul_mat_flops,
    ),
    Contract(
        Op.OUT_PROD,
        (
            Source("a", frozenset({GGMLType.F32, GGMLType.F16}) | QUANTIZED),
            Source("b", F32),
        ),
        F32,
        _out_prod_ne,
        rules=(
            equal((A, 1), (B, 1)),
            multiple((B, 2), (A, 2)),
            multiple((B, 3), (A, 3)),
        ),
        flops=_out_prod_flops,
    ),
)
