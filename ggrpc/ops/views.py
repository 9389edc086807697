"""NONE, VIEW, RESHAPE, PERMUTE, TRANSPOSE: nodes that only name bytes that are there.

The client has worked out their ne, nb and address already, so nothing is computed.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Source, define
from ggrpc.ops.rules import ANY, RESULT, own, same_elements

A = 0


class PermuteParams(NamedTuple):
    """Where each dimension of the source goes."""

    axis0: int
    axis1: int
    axis2: int
    axis3: int


_sources = (Source("a", ANY),)

define(
    Contract(Op.NONE, (), ANY, own, computes=False),
    Contract(Op.VIEW, _sources, ANY, own, computes=False),
    Contract(
        Op.RESHAPE,
        _sources,
        ANY,
        own,
        rules=(same_elements(A, RESULT),),
        computes=False,
    ),
    Contract(Op.PERMUTE, _sources, ANY, own, PermuteParams, computes=False),
    Contract(Op.TRANSPOSE, _sources, ANY, own, computes=False),
)
