"""WIN_PART, WIN_UNPART, GET_REL_POS, ADD_REL_POS on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.types import GGMLType
from tests.support.case import Case, run_case
from tests.support.cases.windows import cases
from tests.support.reference import assert_agree, by_definition


def define(node: Node, a: Array, *more: Array) -> Array:
    return DEFINITIONS[node.tensor.op](node, a, *more)


def define_win_part(node: Node, image: Array) -> Array:
    npx, npy, w = node.params
    room = (npy * w - image.shape[1], npx * w - image.shape[2])
    whole = np.pad(image[0], [(0, room[0]), (0, room[1]), (0, 0)])
    grid = whole.reshape(npy, w, npx, w, -1).swapaxes(1, 2)
    return grid.reshape(npx * npy, w, w, -1)


def define_win_unpart(node: Node, windows: Array) -> Array:
    channels, width, height, _ = node.tensor.ne
    w = node.params.w
    grid = windows.reshape(-(-height // w), -(-width // w), w, w, channels)
    whole = grid.swapaxes(1, 2).reshape(-1, grid.shape[1] * w, channels)
    return whole[None, :height, :width]


def define_get_rel_pos(node: Node, a: Array) -> Array:
    n = node.tensor.ne[1]
    rows = np.arange(n)
    return a[:, 0, rows[:, None] - rows + n - 1]


def define_add_rel_pos(node: Node, a: Array, pw: Array, ph: Array) -> Array:
    matrices = a.reshape(*pw.shape, -1)
    return (matrices + ph[..., None] + pw[..., None, :]).reshape(a.shape)


DEFINITIONS = {
    Op.WIN_PART: define_win_part,
    Op.WIN_UNPART: define_win_unpart,
    Op.GET_REL_POS: define_get_rel_pos,
    Op.ADD_REL_POS: define_add_rel_pos,
}


def defined_cases() -> list[object]:
    """All cases except BF16, which ggml treats as F16."""
    return [
        pytest.param(case, id=name)
        for name, case in cases()
        if all(tensor.type != GGMLType.BF16 for tensor in case.tensors)
    ]


@pytest.mark.parametrize("case", defined_cases())
def test_windows_equal_their_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))
