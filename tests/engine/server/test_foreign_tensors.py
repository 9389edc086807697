"""Tensors in a graph that are in memory of the client or of another server.

Clients send them, because views and other parts of a split graph refer to them. They
are an error only if a node reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.wire.dialects import DEFAULTS
from ggrpc.errors import ConnectionLost
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.clients import vector
from tests.support.drivers import usable_device
from tests.support.servers import running

POINTER = 0x7F3A_5C00_1040  # into the client's own memory
HANDLE = 0x55D0_1234_5670  # of a buffer of another server
FOREIGN = {"of the client": 0, "of another server": HANDLE}
VIEWS = (Op.VIEW, Op.RESHAPE, Op.PERMUTE, Op.TRANSPOSE)
COUNT = 8
OUTSIDE, VIEW, X, Y = 100, 101, 1, 2  # ids


def src(*ids: int) -> tuple[int, ...]:
    return (*ids, *(0,) * (10 - len(ids)))


@pytest.fixture(scope="module", params=["cpu", "opencl"])
def device(request) -> Iterator[Device]:  # type: ignore[no-untyped-def]
    with CpuDevice(threads=1, weight_cache=0) as cpu:
        if request.param == "cpu":
            yield cpu
        else:
            yield OpenClDevice(usable_device(), cpu)


@pytest.fixture(params=DEFAULTS, ids=lambda d: str(d.version))
def client(request, device: Device) -> Iterator[Client]:  # type: ignore[no-untyped-def]
    with (
        running(device, dialects=(request.param,)) as endpoint,
        connect(endpoint, timeout=60) as client,
    ):
        yield client


@pytest.fixture(params=FOREIGN.values(), ids=FOREIGN.keys())
def outside(request) -> Tensor:  # type: ignore[no-untyped-def]
    """A tensor that is not of the session."""
    return placed(OUTSIDE, request.param)


def placed(id: int, buffer: int, op: Op = Op.NONE, *ids: int) -> Tensor:
    ne = (COUNT, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    return Tensor(
        *(id, GGMLType.F32, buffer, ne, nb, op),
        src=src(*ids),
        data=POINTER,
        raw_name=f"t{id}".encode(),
    )


def square(client: Client) -> tuple[Tensor, Tensor]:
    """X, which holds 0 to 7, and the node Y that squares it."""
    x, y = vector(client, COUNT)._replace(id=X), vector(client, COUNT)
    client.set_tensor(x, np.arange(COUNT, dtype=np.float32).tobytes())
    return x, y._replace(id=Y, op=Op.SQR, src=src(X), raw_name=b"result")


def computed(client: Client, tensors: Sequence[Tensor], nodes: Sequence[int]) -> bool:
    """Whether Y is the square of X after the graph."""
    client.compute(Graph.of(tensors, nodes))
    values = np.empty(COUNT, np.float32)
    (y,) = (tensor for tensor in tensors if tensor.id == Y)
    client.get_tensor(y, memoryview(values).cast("B"))
    return values.tolist() == [n * n for n in range(COUNT)]


def test_tensor_outside_that_nothing_names_is_accepted(client, outside) -> None:  # type: ignore[no-untyped-def]
    assert computed(client, [*square(client), outside], [Y])


def test_view_into_a_tensor_outside_is_read_where_it_is(client, outside) -> None:  # type: ignore[no-untyped-def]
    x, y = square(client)
    assert computed(client, [x._replace(view_src=OUTSIDE), y, outside], [Y])


def test_view_whose_tensor_was_not_sent_is_read_where_it_is(client) -> None:  # type: ignore[no-untyped-def]
    x, y = square(client)
    assert computed(client, [x._replace(view_src=77), y], [Y])


@pytest.mark.parametrize("op", VIEWS, ids=lambda op: op.name)
def test_view_of_a_tensor_outside_that_nothing_reads_is_accepted(  # type: ignore[no-untyped-def]
    client, outside, op: Op
) -> None:
    view = placed(VIEW, outside.buffer, op, OUTSIDE)._replace(view_src=OUTSIDE)
    assert computed(client, [*square(client), outside, view], [VIEW, Y])


def test_node_outside_that_is_not_to_be_computed_is_accepted(client, outside) -> None:  # type: ignore[no-untyped-def]
    other = placed(VIEW, outside.buffer, Op.SQR, OUTSIDE)
    assert computed(client, [*square(client), outside, other], [Y])


@pytest.mark.parametrize("op", [None, *VIEWS], ids=lambda op: getattr(op, "name", op))
def test_tensor_outside_that_a_node_reads_is_refused_by_name(  # type: ignore[no-untyped-def]
    client, outside, op: Op | None, caplog
) -> None:
    x, y = square(client)
    tensors, nodes, read = [x, y, outside], [Y], OUTSIDE
    if op is not None:
        tensors.append(placed(VIEW, outside.buffer, op, OUTSIDE))
        nodes, read = [VIEW, Y], VIEW
    tensors[1] = y._replace(op=Op.ADD, src=src(X, read))
    with pytest.raises(ConnectionLost):
        computed(client, tensors, nodes)
    (line,) = (r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)
    named = f"{op.name} 't{VIEW}'" if op else f"tensor 't{OUTSIDE}'"
    assert f"ADD 'result' reads {named}" in line
    assert f"buffer {outside.buffer:#x} does not belong to this session" in line


def test_result_outside_is_refused_by_name(client, outside, caplog) -> None:  # type: ignore[no-untyped-def]
    x, y = square(client)
    moved = y._replace(buffer=outside.buffer, data=POINTER)
    with pytest.raises(ConnectionLost):
        computed(client, [x, moved], [Y])
    assert "SQR 'result': buffer" in caplog.text
