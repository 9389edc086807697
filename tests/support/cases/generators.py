"""Cases of FILL, ARANGE, TIMESTEP_EMBEDDING."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.generators import ArangeParams, FillParams, TimestepEmbeddingParams
from ggrpc.types import GGMLType
from tests.support.case import Case


def cases() -> Iterator[tuple[str, Case]]:
    for type in (GGMLType.F32, GGMLType.F16):
        case = Case()
        x = case.leaf((17, 5, 3), type)
        case.node(Op.FILL, [x], x.ne, type, FillParams(-1.7))
        yield f"FILL-{type.name}", case
    for steps, params in {
        11: (0, 11, 1),
        34: (-1, 2.4, 0.1),
        4: (3, 3.2, 0.06),
    }.items():
        case = Case()
        case.node(Op.ARANGE, [], (steps,), params=ArangeParams(*params))
        yield f"ARANGE-{steps}", case
    for dim in (1, 15, 320):
        yield f"TIMESTEP_EMBEDDING-{dim}", timestep_embedding(dim)


def timestep_embedding(dim: int) -> Case:
    case = Case()
    timesteps = case.leaf(np.array([0, 1, 12.5, 999]))
    params = TimestepEmbeddingParams(dim, 10000)
    case.node(Op.TIMESTEP_EMBEDDING, [timesteps], (dim, 4), params=params)
    return case
