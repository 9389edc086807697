"""OPT_STEP_ADAMW and OPT_STEP_SGD on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from tests.support.case import Case, run_case, values
from tests.support.cases.optimizers import ADAMW, SGD, SHAPES, adamw, sgd

LIMIT = 1e-11


def leaves(case: Case) -> list[Array]:
    """The values of all leaves, in the order in which they were added."""
    image = case.image
    return [values(t, image).astype(np.float64) for t in case.tensors if not t.op]


@pytest.mark.parametrize("ne", SHAPES.values(), ids=SHAPES)
def test_adamw_step_equals_its_definition(cpu: CpuDevice, ne: tuple[int, ...]) -> None:
    case = adamw(ne)
    alpha, beta1, beta2, eps, wd, beta1h, beta2h = ADAMW
    w, grad, m, v, _ = leaves(case)
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    w = w * (1 - alpha * wd) - alpha * m * beta1h / (np.sqrt(v * beta2h) + eps)
    actual = run_case(cpu, case)
    for name, expected in {"w": w, "m": m, "v": v}.items():
        assert nmse(actual[name], expected) < LIMIT, name


@pytest.mark.parametrize("ne", SHAPES.values(), ids=SHAPES)
def test_sgd_step_equals_its_definition(cpu: CpuDevice, ne: tuple[int, ...]) -> None:
    case = sgd(ne)
    alpha, wd = SGD
    w, grad, _ = leaves(case)
    (actual,) = run_case(cpu, case).values()
    assert nmse(actual, w * (1 - alpha * wd) - alpha * grad) < LIMIT
