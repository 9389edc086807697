"""FILL, ARANGE, TIMESTEP_EMBEDDING: values that follow from a formula."""

from __future__ import annotations

import math
from ctypes import c_float
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, RESULT, like, not_empty, own, same_type
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

A, TIMESTEPS = 0, 0


class FillParams(NamedTuple):
    """What every element becomes."""

    c: float


class ArangeParams(NamedTuple):
    """From `start` on by `step`, below `stop`."""

    start: float
    stop: float
    step: float


class TimestepEmbeddingParams(NamedTuple):
    """How many numbers a timestep becomes, and the longest of their periods."""

    dim: int
    max_period: int


def steps(p: ArangeParams) -> int:
    """As many steps as float32 arithmetic gives: ceilf((stop - start) / step)."""
    length = c_float(p.stop - p.start).value
    ratio = c_float(length / p.step).value if p.step else math.inf
    return math.ceil(ratio) if math.isfinite(ratio) else 0


def _as_many(node: Node) -> str | None:
    p = node.params
    count = steps(p)
    if node.tensor.nelements == count > 0:
        return None
    return f"there are {count} steps from {p.start} to {p.stop} by {p.step}"


def _one_row(node: Node) -> str | None:
    return None if node.tensor.nrows == 1 else "the result has more rows than one"


def _embedding_ne(node: Node) -> Dims:
    return node.params.dim, node.source(TIMESTEPS).ne[0], 1, 1


def _dim(node: Node) -> str | None:
    p = node.params
    if p.dim >= 0 and p.max_period > 0:
        return None
    return f"dim is {p.dim} and max_period {p.max_period}: must be positive"


_fillable = frozenset({GGMLType.F32, GGMLType.F16})

define(
    Contract(
        Op.FILL,
        (Source("a", _fillable),),
        _fillable,
        like(A),
        FillParams,
        (same_type(RESULT, A),),
    ),
    Contract(Op.ARANGE, (), F32, own, ArangeParams, (_one_row, _as_many)),
    Contract(
        Op.TIMESTEP_EMBEDDING,
        (Source("timesteps", F32),),
        F32,
        _embedding_ne,
        TimestepEmbeddingParams,
        (_dim, not_empty(TIMESTEPS)),
    ),
)
