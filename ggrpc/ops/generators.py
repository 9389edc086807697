"""FILL, ARANGE, TIMESTEP_EMBEDDING: values that a formula generates."""

from __future__ import annotations

import math
from ctypes import c_float
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, RESULT, any_shape, like, not_empty, same_type
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

A, TIMESTEPS = 0, 0


class FillParams(NamedTuple):
    """The value of every element."""

    c: float


class ArangeParams(NamedTuple):
    """The range from `start` up to `stop`, exclusive, in steps of `step`."""

    start: float
    stop: float
    step: float


class TimestepEmbeddingParams(NamedTuple):
    """The elements of an embedding, and the longest period."""

    dim: int
    max_period: int


def steps(p: ArangeParams) -> int:
    """The number of steps in float32 arithmetic: ceilf((stop - start) / step)."""
    length = c_float(p.stop - p.start).value
    ratio = c_float(length / p.step).value if p.step else math.inf
    return math.ceil(ratio) if math.isfinite(ratio) else 0


def _step_count(node: Node) -> str | None:
    p = node.params
    count = steps(p)
    if node.tensor.nelements == count > 0:
        return None
    if count <= 0:
        return f"there are no values from {p.start} to {p.stop} in steps of {p.step}"
    return (
        f"the result has {node.tensor.nelements} elements, must have {count}: from "
        f"{p.start} to {p.stop} in steps of {p.step}"
    )


def _one_row(node: Node) -> str | None:
    rows = node.tensor.nrows
    return None if rows == 1 else f"the result has {rows} rows, must have 1"


def _embedding_ne(node: Node) -> Dims:
    return node.params.dim, node.source(TIMESTEPS).ne[0], 1, 1


def _dim(node: Node) -> str | None:
    p = node.params
    if p.dim >= 0 and p.max_period > 0:
        return None
    return f"dim is {p.dim} and max_period is {p.max_period}, must be >= 0 and > 0"


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
    Contract(Op.ARANGE, (), F32, any_shape, ArangeParams, (_one_row, _step_count)),
    Contract(
        Op.TIMESTEP_EMBEDDING,
        (Source("timesteps", F32),),
        F32,
        _embedding_ne,
        TimestepEmbeddingParams,
        (_dim, not_empty(TIMESTEPS)),
    ),
)
