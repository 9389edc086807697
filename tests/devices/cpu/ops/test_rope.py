"""ROPE and ROPE_BACK on the cpu device, by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.rope import RopeMode, RopeParams
from ggrpc.types import GGMLType
from tests.support.case import Case, count_steps, run_case
from tests.support.cases.rope import PLAIN, cases, params, positions
from tests.support.reference import by_definition

# Angles grow with the position, and so does their rounding error in float32.
LIMIT = 1e-6


def define(node: Node, x: Array, pos: Array, factors: Array | None = None) -> Array:
    if node.tensor.op == Op.CPY:
        return x
    p, y = node.params, x.copy()
    n = 2 * p.n_dims if p.mode == RopeMode.VISION else p.n_dims
    theta = angles(p, pos.reshape(p.positions, -1), n // 2)
    if factors is not None:
        theta = theta / factors[0, 0, 0, : n // 2]
    theta, size = yarn(p, theta)
    sign = -1 if node.tensor.op == Op.ROPE_BACK else 1
    turn = (size * np.exp(sign * 1j * theta))[:, None]
    first, second = pairs_of(p, n)
    turned = (x[..., first] + 1j * x[..., second]) * turn
    y[..., first], y[..., second] = turned.real, turned.imag
    return y


def pairs_of(p: RopeParams, n: int) -> tuple[Array, Array]:
    """The indices of the elements of each pair."""
    if p.mode == RopeMode.NORMAL:
        return p.n_offs + np.arange(0, n, 2), p.n_offs + np.arange(1, n, 2)
    return p.n_offs + np.arange(n // 2), p.n_offs + np.arange(n // 2, n)


def angles(p: RopeParams, pos: Array, pairs: int) -> Array:
    theta = np.empty((pos.shape[1], pairs))
    for pair in range(pairs):
        kind, power = 0, pair
        if p.positions == 4:
            sector = pair % sum(p.sections)
            kind = position_of(p, sector)
            if p.mode == RopeMode.VISION:
                power = sector - sum(p.sections[:kind])
        theta[:, pair] = pos[kind] * p.freq_base ** (-2 * power / p.n_dims)
    return theta


def position_of(p: RopeParams, sector: int) -> int:
    if p.mode == RopeMode.IMROPE:
        return sector % 3 if sector < 3 * p.sections[sector % 3] else 3
    return [i for i in range(4) for _ in range(p.sections[i])][sector]


def yarn(p: RopeParams, theta: Array) -> tuple[Array, float]:
    if not p.ext_factor:
        return theta * p.freq_scale, p.attn_factor

    def dim(turns: float) -> float:
        ratio = p.n_ctx_orig / (turns * 2 * math.pi)
        return p.n_dims * math.log(ratio) / (2 * math.log(p.freq_base))

    low = max(0, math.floor(dim(p.beta_fast)))
    high = min(p.n_dims - 1, math.ceil(dim(p.beta_slow)))
    pair = np.arange(theta.shape[-1])
    ramp = 1 - np.clip((pair - low) / max(0.001, high - low), 0, 1)
    mix = ramp * p.ext_factor
    size = p.attn_factor * (1 + 0.1 * math.log(1 / p.freq_scale))
    return theta * p.freq_scale * (1 - mix) + theta * mix, size


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_rope_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    actual, right = run_case(cpu, case), by_definition(case, define)
    for name, expected in right.items():
        assert nmse(actual[name], expected) < LIMIT, name


@pytest.mark.parametrize("mode", RopeMode)
def test_rope_computes_its_table_once(cpu: CpuDevice, mode: RopeMode) -> None:
    p = params(mode)

    def steps(nodes: int) -> int:
        case = Case()
        x = case.leaf((64, 2, 3))
        pos = case.leaf(positions(p.positions, 3), GGMLType.I32)
        for _ in range(nodes):
            case.node(Op.ROPE, [x, pos], x.ne, params=p)
        return count_steps(cpu, case)

    assert steps(3) == steps(1) + 2


@pytest.mark.parametrize(
    "strange",
    [
        {"freq_base": -1.0},
        {"freq_base": 0.0},
        {"freq_scale": 0.0, "ext_factor": 1.0},
        {"freq_scale": -1.0, "ext_factor": 1.0},
        {"beta_fast": 0.0, "ext_factor": 1.0, "n_ctx_orig": 0},
    ],
)
def test_rope_accepts_unusual_parameters(
    cpu: CpuDevice, strange: dict[str, float]
) -> None:
    case = Case()
    x, pos = case.leaf((64, 1, 1)), case.leaf(np.array([1]), GGMLType.I32)
    case.node(Op.ROPE, [x, pos], x.ne, params=PLAIN._replace(**strange), name="y")
    assert run_case(cpu, case)["y"].shape == (1, 1, 1, 64)
