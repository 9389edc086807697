"""LIGHTNING_INDEXER, DSV4_HC_COMB, DSV4_HC_PRE, DSV4_HC_POST: the ops of DeepSeek.

The indexer scores keys, so that each token attends only to the best. The others compute
hyper-connections: a token has HC residual streams, mixed before and after each layer.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, equal, has_shape, multiple
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

Q, K, WEIGHTS, MASK = range(4)
MIXES, SCALE, BASE = range(3)
X, PRE_WEIGHTS = 0, 1
RESIDUAL, POST, COMB = 1, 2, 3

HC = 4  # residual streams of DSV4_HC_COMB
MIX_DIM = (2 + HC) * HC  # weights before, weights after, and the matrix
MAX_ITERATIONS = 1000  # models use 20, and by then the values converge


class HcCombParams(NamedTuple):
    """The addend of each sum, and how often rows and columns are normalized."""

    eps: float
    n_iter: int


class HcPreParams(NamedTuple):
    """How the streams are added.

    Attributes:
        scale: the factor of the sum.
        gated: 1 if an element's weight is the sigmoid of its gate, 0 if `weights` has
            one weight for each stream.
    """

    scale: float
    gated: int

    @property
    def factor(self) -> float:
        """The scale; 1 for older clients, which send zeros for both parameters."""
        return self.scale if self.gated else self.scale or 1.0


def _scores_ne(node: Node) -> Dims:
    q, k = node.source(Q).ne, node.source(K).ne
    return k[2], q[2], 1, q[3]


def _iterations(node: Node) -> str | None:
    n_iter = node.params.n_iter
    if 0 < n_iter <= MAX_ITERATIONS:
        return None
    return f"n_iter is {n_iter}, must be 1 to {MAX_ITERATIONS}"


def _has_scales(node: Node) -> str | None:
    ne = node.source(SCALE).ne
    if ne[0] >= 3 and ne[1:] == (1, 1, 1):
        return None
    return f"scale's ne is {list(ne)}, must be one row of at least 3"


def _pre_weights_ne(node: Node) -> Dims:
    x = node.source(X).ne
    return (*x[:3], 1) if node.params.gated else (x[1], x[2], 1, 1)


define(
    Contract(
        Op.LIGHTNING_INDEXER,
        (
            Source("q", F32),
            Source("k", FLOATS | QUANTIZED),
            Source("weights", F32),
            Source("mask", frozenset({GGMLType.F16})),
        ),
        F32,
        _scores_ne,
        rules=(
            has_shape(K, lambda n: (n.source(Q).ne[0], 1, *n.source(K).ne[2:])),
            equal((K, 3), (Q, 3)),
            has_shape(WEIGHTS, lambda n: (*n.source(Q).ne[1:3], 1, n.source(Q).ne[3])),
            has_shape(
                MASK,
                lambda n: (
                    *(n.source(K).ne[2], n.source(Q).ne[2]),
                    *(1, n.source(MASK).ne[3]),
                ),
            ),
            multiple((WEIGHTS, 3), (MASK, 3)),
        ),
    ),
    Contract(
        Op.DSV4_HC_COMB,
        (Source("mixes", F32), Source("scale", F32), Source("base", F32)),
        F32,
        lambda n: (HC, HC, n.source(MIXES).ne[1], 1),
        HcCombParams,
        (
            has_shape(MIXES, lambda n: (MIX_DIM, n.source(MIXES).ne[1], 1, 1)),
            _has_scales,
            has_shape(BASE, lambda n: (MIX_DIM, 1, 1, 1)),
            _iterations,
        ),
    ),
    Contract(
        Op.DSV4_HC_PRE,
        (Source("x", F32), Source("weights", F32)),
        F32,
        lambda n: (n.source(X).ne[0], n.source(X).ne[2], 1, 1),
        HcPreParams,
        (
            has_shape(X, lambda n: (*n.source(X).ne[:3], 1)),
            has_shape(PRE_WEIGHTS, _pre_weights_ne),
        ),
    ),
    Contract(
        Op.DSV4_HC_POST,
        (
            Source("x", F32),
            Source("residual", F32),
            Source("post", F32),
            Source("comb", F32, optional=True),
        ),
        F32,
        lambda n: n.source(RESIDUAL).ne,
        rules=(
            has_shape(X, lambda n: (*n.source(X).ne[:2], 1, 1)),
            equal((RESIDUAL, 0), (X, 0)),
            has_shape(
                RESIDUAL, lambda n: (*n.source(RESIDUAL).ne[:2], n.source(X).ne[1], 1)
            ),
            has_shape(POST, lambda n: (*n.source(RESIDUAL).ne[1:3], 1, 1)),
            has_shape(
                COMB,
                lambda n: (
                    *(n.source(RESIDUAL).ne[1], n.source(RESIDUAL).ne[1]),
                    *(n.source(X).ne[1], 1),
                ),
            ),
        ),
    ),
)
