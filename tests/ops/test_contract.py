"""Rules that apply to every contract, and the decoding of parameters."""

from __future__ import annotations

import struct

import pytest

from ggrpc.errors import GraphError
from ggrpc.op import Op
from ggrpc.ops import CONTRACTS, contract_of
from ggrpc.ops.contract import params_layout
from ggrpc.ops.rope import RopeParams
from ggrpc.tensor import MAX_SRC, OP_PARAMS_BYTES
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases import all_cases
from tests.support.contracts import assert_refused, check

CASES = [pytest.param(case, id=name) for name, case in all_cases().items()]


@pytest.mark.parametrize("case", CASES)
def test_contract_accepts_all_cases(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("op", list(CONTRACTS), ids=lambda op: op.name)
def test_contract_fits_into_the_fields_of_a_tensor(op: Op) -> None:
    contract = contract_of(op)
    assert contract.op is op
    assert len(contract.sources) <= MAX_SRC
    assert params_layout(contract.params).size <= OP_PARAMS_BYTES
    assert len({source.name for source in contract.sources}) == len(contract.sources)


def test_op_without_contract_is_refused_by_name() -> None:
    with pytest.raises(GraphError, match="does not support the op MAP_CUSTOM1"):
        contract_of(Op.MAP_CUSTOM1)


def test_parameters_are_packed_in_order() -> None:
    numbers = (0, 64, 2, 0, 4096, 1e4, 0.5, 1.0, 1.5, 32.0, 1.0, 8, 4, 2, 1, 16)
    packed = struct.pack("<5i6f5i", *numbers)
    assert contract_of(Op.ROPE).unpack_params(packed) == RopeParams(*numbers)


def test_missing_source_is_refused_by_name() -> None:
    case = Case()
    case.node(Op.ADD, [case.leaf((4,)), None], (4,), name="sum")
    assert_refused(case, "ADD 'sum': source b is missing")


def test_source_of_wrong_type_is_refused() -> None:
    case = Case()
    a, b = case.leaf((32,)), case.leaf((32,), GGMLType.Q8_0)
    case.node(Op.MUL, [a, b], a.ne)
    assert_refused(case, "source b is Q8_0, must be one of F32, F16, BF16")


def test_surplus_source_is_refused() -> None:
    case = Case()
    a = case.leaf((4,))
    case.node(Op.SQR, [a, a], a.ne)
    assert_refused(case, "must have at most 1 sources")


def test_result_of_wrong_type_is_refused() -> None:
    case = Case()
    case.node(Op.SQR, [case.leaf((4,))], (4,), GGMLType.I32)
    assert_refused(case, "the result is I32, must be one of F32, F16, BF16")


def test_result_of_wrong_shape_is_refused() -> None:
    case = Case()
    case.node(Op.SQR, [case.leaf((4, 2))], (4, 3))
    assert_refused(case, r"the result's ne is \[4, 3, 1, 1\], must be \[4, 2, 1, 1\]")
