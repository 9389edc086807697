"""Encodes and decodes the graph inside GRAPH_COMPUTE.

The format: n_nodes u32 | node ids u64[n_nodes] | n_tensors u32 | rpc_tensor[n_tensors].
"""

from __future__ import annotations

import struct

import numpy as np

from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.engine.wire.tensors import (
    RPC_TENSOR,
    TENSOR_BYTES,
    pack_tensors,
    unpack_tensors,
)
from ggrpc.errors import RemoteProtocolError
from ggrpc.graph import Graph
from ggrpc.tensor import FLAG_COMPUTE

# GRAPH_CACHE_MAX of ggml-rpc.cpp: how many graphs with a uid a device keeps.
MAX_GRAPHS = 1024

_COUNT = struct.Struct("<I")


def read_graph(payload: bytes, table: OpTable) -> Graph:
    """Decode a graph.

    Raises:
        RemoteProtocolError: the counts do not match the length, or a tensor is
            malformed.
        GraphError: an id is missing or used twice.
    """
    first = _first_tensor(payload)
    nodes = payload[_COUNT.size : first - _COUNT.size]
    node_ids = np.frombuffer(nodes, "<u8").tolist()
    tensors, numbers = unpack_tensors(memoryview(payload)[first:], table)
    return Graph.of(tensors, node_ids, numbers)


def buffers_of(payload: bytes) -> frozenset[int]:
    """The handles of the buffers that the tensors of an encoded graph name.

    Raises:
        RemoteProtocolError: the counts do not match the length.
    """
    records = np.frombuffer(payload, RPC_TENSOR, offset=_first_tensor(payload))
    return frozenset(records["buffer"].tolist()) - {0}


def count_nodes(payload: bytes) -> int:
    """The number of nodes that an encoded graph claims to have."""
    return _count(payload, 0)


def tensor_bytes(payload: bytes) -> float:
    """The bytes of the tensors divided by their number, by the graph's own counts.

    A fork whose rpc_tensor has another size can be told by it.

    Returns:
        0 if there are no tensors; a fraction if the length does not match the counts.

    Raises:
        RemoteProtocolError: the graph is too short for its counts.
    """
    tensors_at = _COUNT.size + 8 * _count(payload, 0)
    count = _count(payload, tensors_at)
    return (len(payload) - tensors_at - _COUNT.size) / count if count else 0


def _first_tensor(payload: bytes) -> int:
    """Check that the counts match the length; return the first rpc_tensor's offset."""
    tensors_at = _COUNT.size + 8 * _count(payload, 0)
    first = tensors_at + _COUNT.size
    if len(payload) != first + TENSOR_BYTES * _count(payload, tensors_at):
        raise RemoteProtocolError(
            f"a graph of {len(payload)} bytes does not match its own counts of nodes "
            "and tensors"
        )
    return first


def _count(payload: bytes, at: int) -> int:
    if len(payload) < at + _COUNT.size:
        raise RemoteProtocolError(f"a graph of {len(payload)} bytes is truncated")
    return int(_COUNT.unpack_from(payload, at)[0])


def write_graph(graph: Graph, table: OpTable, optional: frozenset[str]) -> bytes:
    """Encode a graph.

    In versions that have the flag COMPUTE, ggml's CPU backend skips nodes without it.
    If no tensor of the graph has the flag, it is set on all nodes.

    Args:
        graph: the graph to encode.
        table: the peer's op table.
        optional: the dialect's optional fields; `compute` means that it has the flag.
    """
    tensors = tuple(graph.tensors.values())
    flagged = any(t.flags & FLAG_COMPUTE for t in tensors)
    if "compute" in optional and not flagged:
        nodes = set(graph.node_ids)
        tensors = tuple(
            t._replace(flags=t.flags | FLAG_COMPUTE) if t.id in nodes else t
            for t in tensors
        )
    return b"".join(
        (
            _COUNT.pack(len(graph.node_ids)),
            np.array(graph.node_ids, "<u8").tobytes(),
            _COUNT.pack(len(tensors)),
            pack_tensors(tensors, table, optional),
        )
    )
