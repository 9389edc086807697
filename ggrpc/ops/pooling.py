"""POOL_1D, POOL_2D, POOL_2D_BACK: the mean or the maximum of a sliding window."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, MAX_TAPS, like
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

A, AF = 0, 1


class PoolOp(IntEnum):
    """The kind of pooling. Source: `enum ggml_op_pool`."""

    MAX = 0
    AVG = 1


class Pool1dParams(NamedTuple):
    """A PoolOp; the size, stride and padding of the window."""

    op: int
    k0: int
    s0: int
    p0: int


class Pool2dParams(NamedTuple):
    """A PoolOp; the size, stride and padding of the window in two dimensions."""

    op: int
    k0: int
    k1: int
    s0: int
    s1: int
    p0: int
    p1: int


def _pools(node: Node) -> str | None:
    p = node.params
    if p.op not in (*PoolOp,):
        return f"the pool op is {p.op}, must be 0 to {max(PoolOp):d}"
    if (stride := min(p.s0, getattr(p, "s1", 1))) < 1:
        return f"a stride is {stride}, must be >= 1"
    k0, k1 = p.k0, getattr(p, "k1", 1)
    if min(k0, k1) < 1 or k0 * k1 > MAX_TAPS:
        return f"the window is {k0} x {k1}, must have 1 to {MAX_TAPS} elements"
    return None


def _outputs(have: int, ne: int, k: int, s: int, p: int) -> int:
    """The number of windows.

    Clients may use a padding of p + 1/2, which the parameters cannot express.
    """
    counts = [(ne + 2 * p + more - k) // s + 1 for more in (0, 1)]
    return have if have in counts else counts[0]


def _pool_1d_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    return _outputs(node.tensor.ne[0], a[0], p.k0, p.s0, p.p0), *a[1:]


def _pooled(have: Dims, ne: Dims, p: Pool2dParams) -> Dims:
    n0 = _outputs(have[0], ne[0], p.k0, p.s0, p.p0)
    n1 = _outputs(have[1], ne[1], p.k1, p.s1, p.p1)
    return n0, n1, ne[2], ne[3]


def _pool_2d_ne(node: Node) -> Dims:
    return _pooled(node.tensor.ne, node.source(A).ne, node.params)


def _gradients_fit(node: Node) -> str | None:
    a, af = node.source(A).ne, node.source(AF).ne
    ne = _pooled(a, af, node.params)
    return None if a == ne else f"a's ne is {list(a)}, must be {list(ne)}"


_pooled_types = (Source("a", F32 | {GGMLType.F16}),)

define(
    Contract(Op.POOL_1D, _pooled_types, F32, _pool_1d_ne, Pool1dParams, (_pools,)),
    Contract(Op.POOL_2D, _pooled_types, F32, _pool_2d_ne, Pool2dParams, (_pools,)),
    Contract(
        Op.POOL_2D_BACK,
        (Source("a", F32), Source("af", F32)),
        F32,
        like(AF),
        Pool2dParams,
        (_pools, _gradients_fit),
    ),
)
