"""Changes fields of valid graphs at random, and runs the result safely.

Mutations change the encoded tensors, so they can produce everything that a peer can
send. `random` may be Python's or that of hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from ggrpc.bounds import Region
from ggrpc.devices.device import Device, Placed
from ggrpc.engine.wire.graphs import read_graph, write_graph
from ggrpc.engine.wire.op_tables import op_table
from ggrpc.engine.wire.tensors import RPC_TENSOR, TENSOR_BYTES
from ggrpc.errors import GgrpcError
from ggrpc.graph import Graph
from ggrpc.op import Op
from tests.support.case import BASE, HANDLE, Case

GUARD = 1 << 12  # bytes of canaries on both sides of the region
CANARY = 0xA5
TABLE = op_table("2026-09-11")

EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 255, 256, 1 << 16, (1 << 16) + 1, 1 << 24)
U32 = (*EDGES, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, (1 << 32) - 4)
U64 = (*U32, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 64)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-38, 3e38, -3e38, float("inf"), float("nan"))
WRITTEN_SOURCES = {Op.OPT_STEP_ADAMW: (2, 3)}  # m and v

Records = np.ndarray[Any, np.dtype[np.void]]
Mutation = Callable[[Records, Random], None]


def records_of(
    case: Case, base: int = BASE, handle: int = HANDLE
) -> tuple[list[int], Records]:
    """A case's nodes and rpc_tensors, in a buffer of this handle and base address."""
    graph = case.graph(base, handle)
    payload = write_graph(graph, TABLE, frozenset({"use_count"}))
    first = len(payload) - TENSOR_BYTES * len(graph.tensors)
    records = np.frombuffer(payload[first:], RPC_TENSOR).copy()
    return list(graph.node_ids), records


def payload_of(node_ids: list[int], records: Records) -> bytes:
    """GRAPH_COMPUTE's payload."""
    return b"".join(
        (
            np.uint32(len(node_ids)).tobytes(),
            np.array(node_ids, "<u8").tobytes(),
            np.uint32(len(records)).tobytes(),
            records.tobytes(),
        )
    )


def mutated(
    case: Case, random: Random, count: int, base: int = BASE, handle: int = HANDLE
) -> bytes:
    """The payload of a case after a number of mutations."""
    node_ids, records = records_of(case, base, handle)
    for _ in range(count):
        random.choice(MUTATIONS)(records, random)
    if random.random() < 0.05:
        node_ids = [random.choice([*node_ids, 0, 7 << 40]) for _ in node_ids]
    return payload_of(node_ids, records)


def _any(records: Records, random: Random) -> Any:
    return records[random.randrange(len(records))]


def _number(random: Random, now: int, edges: tuple[int, ...], bits: int) -> int:
    near = random.choice((now - 1, now + 1, 2 * now, now // 2, now * 3 + 1))
    return random.choice((near, random.choice(edges), random.choice(edges))) % (
        1 << bits
    )


def _shape(records: Records, random: Random) -> None:
    record, at = _any(records, random), random.randrange(4)
    record["ne"][at] = _number(random, int(record["ne"][at]), U32, 32)


def _dense_shape(records: Records, random: Random) -> None:
    """Another ne, with the strides of a contiguous tensor."""
    record, at = _any(records, random), random.randrange(4)
    ne = record["ne"]
    ne[at] = _number(random, int(ne[at]), EDGES, 32)
    for i in range(1, 4):
        below = int(record["nb"][i - 1]) * int(ne[i - 1])
        record["nb"][i] = min(below, (1 << 32) - 1)


def _swapped_shape(records: Records, random: Random) -> None:
    record, i, j = _any(records, random), random.randrange(4), random.randrange(4)
    for field in ("ne", "nb"):
        record[field][[i, j]] = record[field][[j, i]]


def _same_shape(records: Records, random: Random) -> None:
    """The same size of all tensors in one dimension."""
    at, value = random.randrange(4), random.choice(EDGES)
    records["ne"][:, at] = value


def _stride(records: Records, random: Random) -> None:
    record, at = _any(records, random), random.randrange(4)
    record["nb"][at] = _number(random, int(record["nb"][at]), U32, 32)


def _no_strides(records: Records, random: Random) -> None:
    record = _any(records, random)
    record["nb"][random.randrange(4) :] = 0
    if random.random() < 0.5:
        record["ne"][random.randrange(4)] = random.choice(U32)


def _data(records: Records, random: Random) -> None:
    record = _any(records, random)
    moved = int(record["data"]) + random.choice((-64, -4, -1, 1, 2, 4, 64, 1 << 20))
    record["data"] = random.choice((moved % (1 << 64), random.choice(U64)))


def _overlap(records: Records, random: Random) -> None:
    """A tensor at the address of another one, or near it."""
    shift = random.choice((0, 0, 4, 8, 64))
    data = int(_any(records, random)["data"]) + shift
    _any(records, random)["data"] = data % (1 << 64)


def _type(records: Records, random: Random) -> None:
    _any(records, random)["type"] = random.choice((*range(44), 1 << 31, (1 << 32) - 1))


def _same_type(records: Records, random: Random) -> None:
    records["type"] = random.choice((0, 1, 2, 8, 10, 24, 25, 26, 27, 28, 30, 39))


def _op(records: Records, random: Random) -> None:
    _any(records, random)["op"] = random.choice((*range(102), 1 << 31, (1 << 32) - 1))


def _params(records: Records, random: Random) -> None:
    params = _any(records, random)["op_params"]
    at = random.randrange(16)
    if random.random() < 0.2:
        params.view("<f4")[at] = random.choice(FLOATS)
        return
    value = _number(random, int(params[at]) & 0xFFFFFFFF, U32, 32)
    params.view("<u4")[at] = value


def _all_params(records: Records, random: Random) -> None:
    _any(records, random)["op_params"] = random.choice((0, 1, -1, 1 << 30, -(1 << 31)))


def _source(records: Records, random: Random) -> None:
    record = _any(records, random)
    ids = [0, 1 << 50, *records["id"].tolist()]
    record["src"][random.randrange(10)] = random.choice(ids)


def _swapped_sources(records: Records, random: Random) -> None:
    src = _any(records, random)["src"]
    i, j = random.randrange(4), random.randrange(4)
    src[[i, j]] = src[[j, i]]


def _rest(records: Records, random: Random) -> None:
    record = _any(records, random)
    field = random.choice(("id", "buffer", "view_src", "view_offs"))
    record[field] = random.choice((*U64, *records["id"].tolist()))


def _flags(records: Records, random: Random) -> None:
    _any(records, random)["flags"] = random.choice((0, 1, 16, -1))


MUTATIONS: tuple[Mutation, ...] = (
    *(_shape, _dense_shape, _dense_shape, _swapped_shape, _same_shape),
    *(_stride, _no_strides, _data, _overlap, _type, _same_type, _op),
    *(_params, _params, _params, _params, _all_params),
    *(_source, _swapped_sources, _rest, _flags),
)


def random_image(case: Case, random: Random) -> bytes:
    """The contents of the buffer: those of the case, one byte repeated, or random."""
    kind = random.randrange(3)
    if kind == 0:
        return case.image
    if kind == 1:
        return random.choice((b"\0", b"\xff", b"\x7f")) * case.size
    return np.random.default_rng(random.randrange(1 << 32)).bytes(case.size)


def run_guarded(device: Device, payload: bytes, image: bytes) -> str:
    """Decode, validate, compile and run a graph between canaries.

    Returns:
        `refused: ` and the reason, or `ran`.

    Raises:
        AssertionError: bytes changed that no node of the graph writes.
        Exception: an error that is no GgrpcError, and therefore a bug.
    """
    size = len(image)
    region = Region(BASE, size)
    try:
        graph = read_graph(payload, TABLE)
        graph.validate({HANDLE: region})
    except GgrpcError as error:
        return f"refused: {error}"
    guarded = bytes([CANARY]) * GUARD + image + bytes([CANARY]) * GUARD
    buffer = device.allocate(len(guarded))
    try:
        with buffer.write(0, len(guarded)) as window:
            window[:] = guarded
        try:
            placed = {HANDLE: Placed(BASE - GUARD, buffer)}
            device.compile(graph, placed).run()
            outcome = "ran"
        except GgrpcError as error:
            outcome = f"refused: {error}"
        with buffer.read(0, len(guarded)) as window:
            after = bytes(window)
    finally:
        buffer.free()
    _assert_untouched(graph, guarded, after)
    return outcome


def _assert_untouched(graph: Graph, before: bytes, after: bytes) -> None:
    changed = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
    for node in graph.nodes:
        places = WRITTEN_SOURCES.get(node.tensor.op, ())
        for tensor in (node.tensor, *(node.source(at) for at in places)):
            start = GUARD + tensor.data - BASE
            if tensor.buffer:
                changed[start : start + tensor.nbytes] = False
    assert not changed.any(), f"byte {int(changed.argmax()) - GUARD} changed"
