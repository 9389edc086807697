"""Encodes and decodes `rpc_tensor`, the layout of a tensor on the wire.

The tensors of a graph are decoded column by column with numpy. A single tensor, as in
SET_TENSOR, is decoded with struct, which avoids the overhead of numpy's calls.
Source: `struct rpc_tensor` of ggml-rpc.cpp, packed, 296 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ggrpc.engine.wire.op_tables import UNKNOWN, Numbering, OpTable
from ggrpc.errors import LocalProtocolError, RemoteProtocolError
from ggrpc.op import Op
from ggrpc.tensor import MAX_DIMS, MAX_SRC, OP_PARAMS_BYTES, Dims, Tensor
from ggrpc.types import GGMLType

RPC_TENSOR = np.dtype(
    [
        ("id", "<u8"),
        ("type", "<u4"),
        ("buffer", "<u8"),
        ("ne", "<u4", MAX_DIMS),
        ("nb", "<u4", MAX_DIMS),
        ("op", "<u4"),
        ("op_params", "<i4", OP_PARAMS_BYTES // 4),
        ("flags", "<i4"),
        ("src", "<u8", MAX_SRC),
        ("view_src", "<u8"),
        ("view_offs", "<u8"),
        ("data", "<u8"),
        ("name", "S64"),
        ("use_count", "<i4"),
    ]
)
TENSOR_BYTES = RPC_TENSOR.itemsize
_ONE = struct.Struct("<QIQ4I4II64si10QQQQ64si")  # the same, with op_params as bytes

Records = np.ndarray[Any, np.dtype[np.void]]

_TYPES = {int(t): t for t in GGMLType}
_OPS = list(Op)
_BLCK_SIZE = np.zeros(max(GGMLType) + 1, np.uint64)
_TYPE_SIZE = np.zeros_like(_BLCK_SIZE)
for _type in GGMLType:
    _BLCK_SIZE[_type] = _type.blck_size
    _TYPE_SIZE[_type] = _type.type_size


class Unpacked(NamedTuple):
    """Decoded tensors.

    Attributes:
        tensors: the tensors.
        kind_numbers: a number for each tensor. Tensors with equal numbers have the same
            type, ne, nb, op, op_params and flags.
    """

    tensors: list[Tensor]
    kind_numbers: list[int]


def unpack_tensors(payload: bytes | memoryview, table: OpTable) -> Unpacked:
    """Decode a whole number of rpc_tensors.

    The layers of a model are alike, so the fields of each kind are decoded once.

    Raises:
        RemoteProtocolError: a type or op does not exist.
    """
    records: Records = np.frombuffer(payload, RPC_TENSOR)
    keys = _kind_bytes(records).tolist()
    examples = dict(zip(keys, range(len(keys)), strict=True))
    kinds = _unpack_kinds(records[list(examples.values())], table)
    number_of = dict(zip(examples, range(len(examples)), strict=True))
    numbers = [number_of[key] for key in keys]
    type, ne, nb, op, op_params, flags = (
        map(column.__getitem__, numbers) for column in kinds
    )
    columns = (
        records["id"].tolist(),
        type,
        records["buffer"].tolist(),
        *(ne, nb, op, op_params, flags),
        map(tuple, records["src"].tolist()),
        records["view_src"].tolist(),
        records["view_offs"].tolist(),
        records["data"].tolist(),
        records["name"].tolist(),
        records["use_count"].tolist(),
    )
    make = partial(tuple.__new__, Tensor)
    return Unpacked(list(map(make, zip(*columns, strict=True))), numbers)


def _kind_bytes(records: Records) -> Any:
    """The bytes of each record that determine its kind.

    numpy strips trailing zeros from byte strings; since all strings have the same
    length, equal strings still mean equal bytes.
    """
    raw = records.view(np.uint8).reshape(len(records), TENSOR_BYTES)
    fields = RPC_TENSOR.fields
    assert fields is not None
    type, ne, src = (fields[name][1] for name in ("type", "ne", "src"))
    kinds = np.concatenate([raw[:, type : type + 4], raw[:, ne:src]], axis=1)
    return kinds.view(f"S{kinds.shape[1]}").ravel()


def _unpack_kinds(records: Records, table: OpTable) -> tuple[list[Any], ...]:
    """The columns type, ne, nb, op, op_params and flags."""
    types = _known_types(records)
    ops = _translate(records["op"], table.op.to_ours, records, "op")
    params = _params_from_wire(records, ops, table).tobytes()
    return (
        [_TYPES[t] for t in types.tolist()],
        list(map(tuple, records["ne"].tolist())),
        list(map(tuple, _restored_nb(records, types).tolist())),
        [_OPS[op] for op in ops.tolist()],
        [
            params[at : at + OP_PARAMS_BYTES]
            for at in range(0, len(params), OP_PARAMS_BYTES)
        ],
        records["flags"].tolist(),
    )


def unpack_tensor(payload: bytes, table: OpTable) -> Tensor:
    """Decode one rpc_tensor.

    Raises:
        RemoteProtocolError: the type or op does not exist.
    """
    values = _ONE.unpack(payload)
    type, op, ne = values[1], values[11], values[3:7]
    known = type in _TYPES and op < len(table.op.to_ours)
    if not known or _is_rare(_TYPES[type], op := _OPS[table.op.to_ours[op]], ne):
        return unpack_tensors(payload, table).tensors[0]
    return Tensor(
        values[0],
        _TYPES[type],
        values[2],
        ne,
        values[7:11],
        op,
        op_params=values[12],
        flags=values[13],
        src=values[14:24],
        view_src=values[24],
        view_offs=values[25],
        data=values[26],
        raw_name=values[27].rstrip(b"\0"),
        use_count=values[28],
    )


def _is_rare(type: GGMLType, op: Op, ne: Dims) -> bool:
    """Whether `unpack_tensors` must decode it: long strides, or a sub-operation."""
    large = type.row_size(ne[0]) * ne[1] * ne[2] * ne[3] > 0xFFFFFFFF
    return large or op is Op.UNARY or op is Op.GLU


def pack_tensors(
    tensors: Sequence[Tensor], table: OpTable, optional: frozenset[str]
) -> bytes:
    """Encode tensors.

    Args:
        tensors: the tensors to encode.
        table: the peer's op table.
        optional: the dialect's optional fields; without `use_count` it is written as 0.

    Raises:
        LocalProtocolError: the op table lacks an op.
    """
    records: Records = np.zeros(len(tensors), RPC_TENSOR)
    for at, tensor in enumerate(tensors):
        records[at] = (
            *tensor[:4],
            [b & 0xFFFFFFFF for b in tensor.nb],
            tensor.op,
            np.frombuffer(tensor.op_params, "<i4"),
            *tensor[7:],
        )
    ops = records["op"].astype(np.int64)
    for op, numbering in _sub_operations(table):
        rows = ops == op
        params = records["op_params"]
        params[rows, 0] = _numbers(params[rows, 0], numbering)
    records["op"] = _numbers(ops, table.op)
    if "use_count" not in optional:
        records["use_count"] = 0
    return records.tobytes()


def _known_types(records: Records) -> Any:
    types = records["type"]
    known = types < len(_BLCK_SIZE)
    known[known] = _BLCK_SIZE[types[known]] > 0
    _require(known, types, records, "type")
    return types


def _translate(numbers: Any, to_ours: Any, records: Records, what: str) -> Any:
    """Translate wire numbers to those of `Op`; reject unknown ones."""
    _require((numbers >= 0) & (numbers < len(to_ours)), numbers, records, what)
    return to_ours[numbers]


def _require(holds: Any, numbers: Any, records: Records, what: str) -> None:
    if not holds.all():
        at = int(np.argmin(holds))
        name = bytes(records["name"][at]).split(b"\0")[0].decode(errors="replace")
        raise RemoteProtocolError(
            f"tensor '{name}': there is no {what} {int(numbers[at])} in this version"
        )


def _params_from_wire(records: Records, ops: Any, table: OpTable) -> Any:
    params = records["op_params"].copy()
    for op, numbering in _sub_operations(table):
        rows = ops == op
        if rows.any():
            params[rows, 0] = _translate(
                params[rows, 0], numbering.to_ours, records[rows], op.name
            )
    return params


def _sub_operations(table: OpTable) -> tuple[tuple[Op, Numbering], ...]:
    """The ops whose op_params[0] is the number of a sub-operation."""
    return (Op.UNARY, table.unary), (Op.GLU, table.glu)


def _numbers(ours: Any, numbering: Numbering) -> Any:
    numbers = numbering.to_wire[ours]
    if (numbers == UNKNOWN).any():
        raise LocalProtocolError(
            "the graph uses an op that the peer's version does not have"
        )
    return numbers


def _restored_nb(records: Records, types: Any) -> Any:
    """The 64-bit strides, restored from the low 32 bits on the wire.

    ggml sends nb as u32. If the low halves match a contiguous tensor, the tensor is
    taken to be contiguous: no other layout of a tensor that large is in use.
    """
    sent = records["nb"].astype(np.uint64)
    ne = records["ne"].astype(np.uint64)
    nb = np.empty_like(sent)
    nb[:, 0] = _TYPE_SIZE[types]
    nb[:, 1] = ne[:, 0] // _BLCK_SIZE[types] * _TYPE_SIZE[types]
    nb[:, 2] = nb[:, 1] * ne[:, 1]
    nb[:, 3] = nb[:, 2] * ne[:, 2]
    contiguous = ((nb & np.uint64(0xFFFFFFFF)) == sent).all(axis=1, keepdims=True)
    return np.where(contiguous, nb, sent)
