from __future__ import annotations

import struct

import numpy as np
import pytest

from ggrpc.engine.wire import tensors as tensors_module
from ggrpc.engine.wire.dialects import V3_6_1, V7_0_0
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.engine.wire.tensors import (
    RPC_TENSOR,
    TENSOR_BYTES,
    unpack_tensor,
    unpack_tensors,
)
from ggrpc.errors import LocalProtocolError, RemoteProtocolError
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

WITH_USE_COUNT = frozenset({"use_count"})
NEW, OLD = V7_0_0.table, V3_6_1.table
PLAIN = Tensor(
    id=1,
    type=GGMLType.Q8_0,
    buffer=2,
    ne=(64, 3, 1, 1),
    nb=contiguous_nb(GGMLType.Q8_0, (64, 3, 1, 1)),
    op=Op.MUL_MAT,
    op_params=bytes(range(64)),
    flags=16,
    src=(3, 4, 0, 0, 0, 0, 0, 0, 0, 2**64 - 1),
    view_src=5,
    view_offs=6,
    data=2**63,
    raw_name=b"blk.0 \xff name",
    use_count=-1,
)


def pack_tensors(tensors: list[Tensor], table: OpTable) -> bytes:
    return tensors_module.pack_tensors(tensors, table, WITH_USE_COUNT)


def sub_operation(op: Op, number: int) -> Tensor:
    return PLAIN._replace(op=op, op_params=struct.pack("<i60x", number))


def test_rpc_tensor_has_the_size_of_ggmls_struct() -> None:
    assert TENSOR_BYTES == 296
    assert RPC_TENSOR.fields is not None
    assert RPC_TENSOR.fields["data"][1] == 220


HUGE = (4096, 1 << 20, 3, 1)
TENSORS = [
    PLAIN,
    PLAIN._replace(op=Op.NONE, op_params=bytes(64), raw_name=b""),
    PLAIN._replace(type=GGMLType.F32, ne=HUGE, nb=contiguous_nb(GGMLType.F32, HUGE)),
    sub_operation(Op.UNARY, UnaryOp.TRUNC),
    sub_operation(Op.GLU, GluOp.GEGLU_QUICK),
]


@pytest.mark.parametrize("table", [NEW, OLD], ids=["7.0.0", "3.6.1"])
@pytest.mark.parametrize("tensor", TENSORS, ids=lambda t: f"{t.op.name}-{t.type.name}")
def test_one_tensor_decodes_as_many_do(table, tensor) -> None:  # type: ignore[no-untyped-def]
    sent = pack_tensors([tensor], table)
    assert unpack_tensor(sent, table) == tensor
    assert unpack_tensors(sent, table).tensors == [tensor]


@pytest.mark.parametrize("table", [NEW, OLD], ids=["7.0.0", "3.6.1"])
def test_tensors_survive_the_wire(table) -> None:  # type: ignore[no-untyped-def]
    tensors = [PLAIN, sub_operation(Op.UNARY, UnaryOp.TRUNC), PLAIN._replace(id=9)]
    assert unpack_tensors(pack_tensors(tensors, table), table).tensors == tensors


def test_op_numbers_follow_the_table() -> None:
    sent = pack_tensors([sub_operation(Op.GLU, GluOp.GEGLU)], OLD)
    assert np.frombuffer(sent, RPC_TENSOR)["op"][0] == 95  # 100 in 7.0.0
    assert unpack_tensors(sent, OLD).tensors[0].op is Op.GLU


def test_op_that_the_version_lacks_cannot_be_sent() -> None:
    for tensor in (
        PLAIN._replace(op=Op.LIGHTNING_INDEXER),
        sub_operation(Op.GLU, GluOp.SWIGLU_CLAMP),
    ):
        with pytest.raises(LocalProtocolError, match="does not have"):
            pack_tensors([tensor], OLD)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("type", 4, "there is no type 4"),
        ("type", 2**32 - 1, "there is no type 4294967295"),
        ("op", 101, "there is no op 101"),
    ],
)
def test_unknown_number_is_refused(field: str, value: int, complaint: str) -> None:
    records = np.frombuffer(pack_tensors([PLAIN, PLAIN], NEW), RPC_TENSOR).copy()
    records[field][1] = value
    with pytest.raises(RemoteProtocolError, match=complaint):
        unpack_tensors(records.tobytes(), NEW)
    with pytest.raises(RemoteProtocolError, match=complaint):
        unpack_tensor(records[1:].tobytes(), NEW)


@pytest.mark.parametrize("number", [-1, 22])
def test_unknown_sub_operation_is_refused(number: int) -> None:
    records = np.frombuffer(
        pack_tensors([sub_operation(Op.UNARY, 0)], NEW), RPC_TENSOR
    ).copy()
    records["op_params"][0, 0] = number
    with pytest.raises(RemoteProtocolError, match=f"there is no UNARY {number}"):
        unpack_tensors(records.tobytes(), NEW)


def test_strides_of_a_permuted_tensor_are_left_alone() -> None:
    tensor = PLAIN._replace(type=GGMLType.F32, ne=(8, 4, 2, 1), nb=(4, 64, 32, 256))
    assert unpack_tensors(pack_tensors([tensor], NEW), NEW).tensors == [tensor]


def test_use_count_is_padding_where_the_version_has_none() -> None:
    sent = tensors_module.pack_tensors([PLAIN], NEW, frozenset())
    assert unpack_tensor(sent, NEW).use_count == 0
