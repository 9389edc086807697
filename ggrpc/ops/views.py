"""NONE, VIEW, RESHAPE, PERMUTE, TRANSPOSE: leaves and views, which compute nothing.

A view shows bytes of another tensor; the client computes its ne, nb and address.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Source, define
from ggrpc.ops.rules import ANY, RESULT, any_shape, same_elements

A = 0


class PermuteParams(NamedTuple):
    """The new place of each dimension of the source."""

    axis0: int
    axis1: int
    axis2: int
    axis3: int


_sources = (Source("a", ANY),)

define(
    Contract(Op.NONE, (), ANY, any_shape, computes=False),
    Contract(Op.VIEW, _sources, ANY, any_shape, computes=False),
    Contract(
        Op.RESHAPE,
        _sources,
        ANY,
        any_shape,
        rules=(same_elements(A, RESULT),),
        computes=False,
    ),
    Contract(Op.PERMUTE, _sources, ANY, any_shape, PermuteParams, computes=False),
    Contract(Op.TRANSPOSE, _sources, ANY, any_shape, computes=False),
)
