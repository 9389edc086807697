"""Cases of OPT_STEP_ADAMW, OPT_STEP_SGD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ggrpc.op import Op
from ggrpc.tensor import Tensor
from tests.support.case import Case

SHAPES = {"row": (100,), "odd": (33, 5, 4, 3), "large": (512, 300)}
ADAMW = np.array([1e-2, 0.9, 0.999, 1e-8, 0.1, 1 / (1 - 0.9**3), 1 / (1 - 0.999**3)])
SGD = np.array([1e-2, 0.1])


def cases() -> Iterator[tuple[str, Case]]:
    for name, ne in SHAPES.items():
        yield f"OPT_STEP_ADAMW-{name}", adamw(ne)
        yield f"OPT_STEP_SGD-{name}", sgd(ne)
    yield (
        "OPT_STEP_ADAMW-no_decay",
        adamw((64, 3), np.where(np.arange(7) == 4, 0, ADAMW)),
    )
    yield "OPT_STEP_SGD-no_decay", sgd((64, 3), np.array([1e-3, 0]))


def adamw(ne: Sequence[int], params: np.ndarray = ADAMW) -> Case:
    """The means of the gradients are results too: CONT reads them after the step."""
    case = Case()
    a, grad, m = (case.leaf(ne) for _ in range(3))
    v, numbers = case.leaf(case.rng.random(ne[::-1])), case.leaf(params)
    sources = [a, grad, m, v, numbers]
    case.node(Op.OPT_STEP_ADAMW, sources, ne, inplace_over=a, name="w")
    add_copy(case, m, "m")
    add_copy(case, v, "v")
    return case


def sgd(ne: Sequence[int], params: np.ndarray = SGD) -> Case:
    case = Case()
    a, grad, numbers = case.leaf(ne), case.leaf(ne), case.leaf(params)
    case.node(Op.OPT_STEP_SGD, [a, grad, numbers], ne, inplace_over=a)
    return case


def add_copy(case: Case, source: Tensor, name: str) -> None:
    case.node(Op.CONT, [source], source.ne, name=name)
