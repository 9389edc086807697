"""Fusions: a launch that computes several nodes must give each its own result."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.errors import GraphError
from ggrpc.formats.nmse import nmse
from ggrpc.op import GluOp, Op
from ggrpc.ops.activations import GluParams
from ggrpc.ops.arithmetic import ScaleParams
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rope import RopeMode
from ggrpc.types import GGMLType
from tests.devices.opencl.fusions.patterns import (
    attention_of_one,
    biased,
    caches,
    gated,
    gated_experts,
    product,
    ropes_and_caches,
    sum_of_experts,
)
from tests.support.case import BASE, HANDLE, Case, run_case
from tests.support.cases.experts import chosen
from tests.support.cases.rope import params

Q4_0, Q8_0, Q6_K = GGMLType.Q4_0, GGMLType.Q8_0, GGMLType.Q6_K

LIMIT = 5e-4  # the other operand is rounded to 8 bits


def steps(device: OpenClDevice, case: Case) -> int:
    """The number of launches of a case."""
    buffer = device.allocate(case.size)
    program = device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.free()
    return len(program.steps)


def check(device: OpenClDevice, case: Case, launches: int) -> None:
    if device.traits.is_cpu:  # others have kernels of their own for products
        assert steps(device, case) == launches
    expected = run_case(CpuDevice(threads=1), case)
    for name, values in run_case(device, case).items():
        assert nmse(values, expected[name]) < LIMIT, name


@pytest.mark.parametrize("tokens", [1, 3])
def test_sum_norm_and_weight_take_one_launch(opencl: OpenClDevice, tokens: int) -> None:
    case = Case()
    a, b, w = case.leaf((83, tokens)), case.leaf((83, tokens)), case.leaf((83,))
    x = case.node(Op.ADD, [a, b], a.ne)
    y = case.node(Op.RMS_NORM, [x], a.ne, params=NormParams(1e-5))
    case.node(Op.MUL, [y, w], a.ne)
    check(opencl, case, 1)


def test_sum_in_place_norm_and_weight_take_one_launch(opencl: OpenClDevice) -> None:
    case = Case()
    a, b, w = case.leaf((64, 2)), case.leaf((64, 2)), case.leaf((64,))
    x = case.node(Op.ADD, [a, b], a.ne, inplace_over=a)
    y = case.node(Op.RMS_NORM, [x], a.ne, params=NormParams(1e-5))
    case.node(Op.MUL, [y, w], a.ne, inplace_over=y)
    check(opencl, case, 1)


def test_sum_of_a_row_for_all_is_left_alone(opencl: OpenClDevice) -> None:
    case = Case()
    a, b, w = case.leaf((64, 2)), case.leaf((64, 1)), case.leaf((64,))
    x = case.node(Op.ADD, [a, b], a.ne)
    y = case.node(Op.RMS_NORM, [x], a.ne, params=NormParams(1e-5))
    case.node(Op.MUL, [y, w], a.ne)
    check(opencl, case, 2)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("op", [GluOp.SWIGLU, GluOp.GEGLU, GluOp.SWIGLU_OAI])
@pytest.mark.parametrize("type", [Q4_0, Q6_K], ids=lambda type: type.name)
def test_gate_up_and_glu_take_one_launch(
    opencl: OpenClDevice, type: GGMLType, op: GluOp, swapped: bool
) -> None:
    case = Case()
    x = case.leaf((256, 1))
    gate, up = product(case, x, 37, type), product(case, x, 37, type)
    halves = [up, gate] if swapped else [gate, up]
    case.node(Op.GLU, halves, gate.ne, params=GluParams(op, 0, 1.702, 3))
    check(opencl, case, 2)  # and one that quantizes the row


@pytest.mark.parametrize("n", [37, 544])
def test_glu_is_rounded_for_the_product_that_follows(
    opencl: OpenClDevice, n: int
) -> None:
    case = Case()
    y = gated(case, n, Q4_0)
    # Rows of quantized matrices have whole blocks.
    product(case, case.view(y, (n // 32 * 32, 1)) if n % 32 else y, 19)
    check(opencl, case, 3 + (n % 32 > 0))


def test_glu_that_is_rounded_over_what_is_read_waits(opencl: OpenClDevice) -> None:
    """Quantized rows of the same length share memory."""
    case = Case()
    product(case, gated(case, 256), 19)
    check(opencl, case, 4)


def test_queries_keys_and_values_take_one_launch(opencl: OpenClDevice) -> None:
    """Nodes that use the queries are between the products."""
    case = Case()
    x = case.leaf((128, 1))
    q = product(case, x, 64)
    case.node(Op.SCALE, [q], q.ne, params=ScaleParams(0.5, 0))
    product(case, x, 19)
    k = product(case, x, 35)
    case.node(Op.SCALE, [k], k.ne, params=ScaleParams(2, 0))
    check(opencl, case, 4)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_and_their_biases_take_one_launch(
    opencl: OpenClDevice, count: int, inplace: bool
) -> None:
    case = Case()
    x = case.leaf((128, 1))
    for n in (64, 19, 35)[:count]:
        biased(case, product(case, x, n), inplace)
    check(opencl, case, 2)


def test_bias_of_one_product_alone_is_added_by_itself(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.leaf((128, 1))
    biased(case, product(case, x, 64))
    product(case, x, 64)
    check(opencl, case, 3)


def test_bias_whose_sum_takes_the_place_of_what_is_still_read_waits(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    x, used = case.leaf((128, 1)), case.leaf((64, 1))
    y = product(case, x, 64)
    case.node(Op.SQR, [used], used.ne)
    case.node(Op.ADD, [y, case.leaf(y.ne)], y.ne, inplace_over=used)
    check(opencl, case, 4)


def test_bias_whose_sum_overwrites_the_weights_waits(opencl: OpenClDevice) -> None:
    """Other work-groups may still need the weights."""
    case = Case()
    weights, x = case.leaf((128, 64), Q8_0), case.leaf((128, 1))
    y = case.node(Op.MUL_MAT, [weights, x], (64, 1))
    z = biased(case, y)
    case.tensors[-1] = z._replace(data=weights.data + 8192)
    check(opencl, case, 3)


def test_products_of_other_rows_or_types_are_left_alone(opencl: OpenClDevice) -> None:
    case = Case()
    x, other = case.leaf((256, 1)), case.leaf((256, 1))
    product(case, x, 16)
    product(case, x, 16, Q4_0)
    product(case, other, 16)
    check(opencl, case, 5)


def test_more_products_than_a_launch_takes_are_right(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.leaf((64, 1))
    for n in range(20, 27):
        product(case, x, n)
    check(opencl, case, 4)


def test_product_into_memory_that_is_still_read_waits(opencl: OpenClDevice) -> None:
    """The second product overwrites the first one, which other nodes read before."""
    case = Case()
    x = case.leaf((64, 1))
    first = product(case, x, 32)
    used = case.node(Op.SQR, [first], first.ne)
    second = case.node(
        Op.MUL_MAT, [case.leaf((64, 32), Q8_0), x], first.ne, inplace_over=first
    )
    case.node(Op.ADD, [used, second], first.ne)
    check(opencl, case, 5)


def test_product_of_a_row_that_was_overwritten_is_of_the_new_one(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    x = case.leaf((64, 1))
    product(case, x, 32)
    now = case.node(Op.SQR, [x], x.ne, inplace_over=x)
    product(case, now, 32)
    check(opencl, case, 5)


@pytest.mark.parametrize("sums", [False, True])
def test_norm_weight_and_rounding_take_one_launch(
    opencl: OpenClDevice, sums: bool
) -> None:
    case = Case()
    x, w = case.leaf((96, 1)), case.leaf((96,))
    if sums:
        x = case.node(Op.ADD, [x, case.leaf((96, 1))], x.ne)
    y = case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(1e-5))
    z = case.node(Op.MUL, [y, w], x.ne)
    product(case, z, 37)
    product(case, z, 12, Q4_0)
    check(opencl, case, 3)


def test_row_that_only_begins_like_the_weighted_one_is_rounded_anew(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    x, w = case.leaf((96, 1)), case.leaf((96,))
    y = case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(1e-5))
    z = case.node(Op.MUL, [y, w], x.ne)
    product(case, case.view(z, (64, 1)), 37)
    product(case, z, 37)
    check(opencl, case, 5)


@pytest.mark.parametrize("mode", [RopeMode.NORMAL, RopeMode.NEOX])
@pytest.mark.parametrize("tokens", [1, 5])
def test_queries_and_keys_are_turned_in_one_launch(
    opencl: OpenClDevice, mode: RopeMode, tokens: int
) -> None:
    case = Case()
    pos = case.leaf(np.arange(tokens) + 3, GGMLType.I32)
    q, k, p = case.leaf((64, 6, tokens)), case.leaf((64, 2, tokens)), params(mode)
    turned = case.node(Op.ROPE, [q, pos], q.ne, params=p)
    case.node(Op.SQR, [turned], q.ne)
    case.node(Op.ROPE, [k, pos], k.ne, params=p)
    check(opencl, case, 3)


@pytest.mark.parametrize("mode", [RopeMode.NORMAL, RopeMode.NEOX])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("type", [GGMLType.F16, Q8_0], ids=lambda type: type.name)
def test_keys_are_turned_into_the_cache_in_one_launch(
    opencl: OpenClDevice, type: GGMLType, tokens: int, mode: RopeMode
) -> None:
    case = Case()
    ropes_and_caches(case, type, mode, tokens)
    check(opencl, case, 2)  # and one for the angles


@pytest.mark.parametrize("wrong", [0, 1])
def test_index_out_of_range_beside_ropes_names_its_node(
    opencl: OpenClDevice, wrong: int
) -> None:
    case = Case()
    ropes_and_caches(case, GGMLType.F16, RopeMode.NEOX, 1, wrong)
    with pytest.raises(GraphError, match=f"'cache {wrong}': index 16 is out of range"):
        run_case(opencl, case)


def test_cache_that_is_read_before_it_is_set_waits(opencl: OpenClDevice) -> None:
    """The queries are read from the cache."""
    case = Case()
    pos, p = case.leaf(np.array([3]), GGMLType.I32), params(RopeMode.NORMAL)
    cache, k = case.leaf((128, 9)), case.leaf((64, 2, 1))
    q = case.view(cache, (64, 2, 1))
    case.node(Op.ROPE, [q, pos], q.ne, params=p)
    keys = case.node(Op.ROPE, [k, pos], k.ne, params=p)
    at = case.leaf(np.array([0]), GGMLType.I64)
    for rows, into in ((case.view(keys, (128, 1)), cache), (k, case.leaf((128, 9)))):
        rows = case.view(rows, (128, 1))
        case.node(Op.SET_ROWS, [rows, at, into], into.ne, inplace_over=into)
    check(opencl, case, 3)


def test_ropes_of_other_angles_or_of_each_other_are_left_alone(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    pos, other = (case.leaf(np.array([n]), GGMLType.I32) for n in (3, 4))
    q, k, p = case.leaf((64, 6, 1)), case.leaf((64, 2, 1)), params(RopeMode.NORMAL)
    first = case.node(Op.ROPE, [q, pos], q.ne, params=p)
    case.node(Op.ROPE, [first, pos], q.ne, params=p)
    case.node(Op.ROPE, [k, other], k.ne, params=p)
    check(opencl, case, 5)


@pytest.mark.parametrize("type", [GGMLType.F16, Q8_0], ids=lambda type: type.name)
def test_keys_and_values_are_set_in_one_launch(
    opencl: OpenClDevice, type: GGMLType
) -> None:
    case = Case()
    caches(case, type)
    check(opencl, case, 1)


@pytest.mark.parametrize("wrong", [0, 1])
def test_index_out_of_range_names_the_right_one_of_two(
    opencl: OpenClDevice, wrong: int
) -> None:
    case = Case()
    for i in range(2):
        rows, cache = case.leaf((64, 1)), case.leaf((64, 9))
        at = case.leaf(np.array([9 if i == wrong else 2]), GGMLType.I64)
        ne = cache.ne
        case.node(
            Op.SET_ROWS, [rows, at, cache], ne, inplace_over=cache, name=f"set {i}"
        )
    with pytest.raises(GraphError, match=f"'set {wrong}': index 9 is out of range"):
        run_case(opencl, case)


def test_rows_set_into_the_same_cache_are_set_in_turn(opencl: OpenClDevice) -> None:
    case = Case()
    cache = case.leaf((64, 9))
    for ids in ([4, 0, 7], [4, 1, 2]):
        at = case.leaf(np.array(ids), GGMLType.I64)
        sources = [case.leaf((64, 3)), at, cache]
        case.node(Op.SET_ROWS, sources, cache.ne, inplace_over=cache)
    check(opencl, case, 2)


@pytest.mark.parametrize("tokens", [1, 3])
def test_what_experts_gave_is_summed_in_one_launch(
    opencl: OpenClDevice, tokens: int
) -> None:
    case = Case()
    sum_of_experts(case, tokens)
    check(opencl, case, 2)


def test_sums_that_each_keep_a_place_are_left_alone(opencl: OpenClDevice) -> None:
    case = Case()
    all_ = case.leaf((32, 3))
    a, b, d = (case.view(all_, (32, 1), (4, 128), 128 * i) for i in range(3))
    x = case.node(Op.ADD, [a, b], a.ne)
    case.node(Op.ADD, [x, d], a.ne)
    check(opencl, case, 2)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
def test_gate_up_and_glu_of_experts_take_one_launch(
    opencl: OpenClDevice, swapped: bool, tokens: int
) -> None:
    case = Case()
    gated_experts(case, tokens, swapped)
    check(opencl, case, 2)


def test_gate_and_up_of_other_choices_are_left_alone(opencl: OpenClDevice) -> None:
    case = Case()
    gate, up = (case.leaf((64, 45, 6), Q4_0) for _ in range(2))
    x, ne = case.leaf((64, 1, 1)), (45, 3, 1)
    halves = [
        case.node(Op.MUL_MAT_ID, [a, x, chosen(case, 6, 3, 1)], ne) for a in (gate, up)
    ]
    case.node(Op.GLU, halves, ne, params=GluParams(GluOp.GEGLU, 0, 0, 0))
    check(opencl, case, 4)


def test_glu_over_the_row_that_it_came_from_is_right(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.leaf((64, 1))
    gate, up = product(case, x, 64), product(case, x, 64)
    glu = GluParams(GluOp.SWIGLU, 0, 0, 0)
    case.node(Op.GLU, [gate, up], x.ne, params=glu, inplace_over=x)
    check(opencl, case, 2)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("heads", "n_kv"), [(6, 17), (8, 1), (8, 256)])
def test_attention_of_one_token_takes_one_launch(
    opencl: OpenClDevice, heads: int, n_kv: int, inplace: bool
) -> None:
    case = Case()
    attention_of_one(case, n_kv, heads=heads, inplace=inplace)
    check(opencl, case, 1)


def test_attention_whose_heads_are_not_joined_takes_one_launch(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    sums = attention_of_one(case, 33, joined=False)
    case.node(Op.SQR, [sums], sums.ne)
    check(opencl, case, 2)


def test_attention_is_rounded_for_the_product_that_follows(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    joined = attention_of_one(case, 40)
    product(case, joined, 37)
    product(case, joined, 12, Q4_0)
    check(opencl, case, 3)


def test_attention_over_its_queries_is_left_alone(opencl: OpenClDevice) -> None:
    """Another head may still need them."""
    case = Case()
    k, v = (case.leaf(ne, GGMLType.F16) for ne in ((32, 8, 1), (8, 32, 1)))
    q, mask = case.leaf((32, 1, 2)), case.leaf((8, 1))
    scores = case.node(Op.MUL_MAT, [k, q], (8, 1, 2))
    soft_max = SoftMaxParams(1, 0)
    weights = case.node(Op.SOFT_MAX, [scores, mask], scores.ne, params=soft_max)
    case.node(Op.MUL_MAT, [v, weights], q.ne, inplace_over=q)
    check(opencl, case, 3)
