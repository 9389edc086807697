"""Graphs by uid: the client counts the graphs on the server, as llama.cpp's does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.engine.client import client as client_module
from ggrpc.engine.client.client import Client, connect, new_uid
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.graphs import MAX_GRAPHS
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor
from tests.support.clients import vector
from tests.support.paths import NEWEST
from tests.support.processes import native_serving
from tests.support.servers import running

Sent = list[type[m.Request]]


@pytest.fixture(params=["ours", "native"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    serving = native_serving(NEWEST) if request.param == "native" else running()
    with serving as endpoint, connect(endpoint, timeout=60) as client:
        yield client


@pytest.fixture
def sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The graphs that the client sends, by kind."""
    kinds: Sent = []
    send = Client._send

    def noting(self: Client, request: m.Request) -> None:
        if isinstance(request, m.GraphCompute | m.GraphRecompute):
            kinds.append(type(request))
        send(self, request)

    monkeypatch.setattr(client_module.Client, "_send", noting)
    return kinds


class Squares:
    """Graphs that square a vector repeatedly; graph n does it n times."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.x = vector(client, 8)
        self.y = vector(client, 8)
        client.set_tensor(self.x, np.full(8, 1.5, np.float32))

    def encoded(self, number: int) -> bytes:
        nodes: list[Tensor] = [self.x]
        for step in range(number):
            src = (nodes[-1].id, *(0,) * 9)
            nodes.append(self.y._replace(id=step + 2, op=Op.SQR, src=src))
        return self.client.encode(Graph.of(nodes, [n.id for n in nodes[1:]]))

    def result(self) -> float:
        values = np.empty(8, np.float32)
        self.client.get_tensor(self.y, memoryview(values).cast("B"))
        return float(values[0])


def test_graph_is_sent_once(client: Client, sent: Sent) -> None:
    squares = Squares(client)
    one, two = squares.encoded(1), squares.encoded(2)
    uids = new_uid(), new_uid()
    for _ in range(3):
        client.run(one, uids[0])
        assert squares.result() == 1.5**2
        client.run(two, uids[1])
        assert squares.result() == 1.5**4
    assert sent.count(m.GraphCompute) == 2
    client.recompute()
    assert squares.result() == 1.5**4


def test_graph_beyond_the_most_empties_both_sides(client: Client, sent: Sent) -> None:
    squares = Squares(client)
    payloads = [squares.encoded(1 + n % 3) for n in range(MAX_GRAPHS + 1)]
    uids = [new_uid() for _ in payloads]
    for payload, uid in zip(payloads, uids, strict=True):
        client.run(payload, uid)
    client.run(payloads[-1], uids[-1])
    client.run(payloads[1], uids[1])
    assert squares.result() == 1.5**4
    assert sent[MAX_GRAPHS + 1 :] == [m.GraphRecompute, m.GraphCompute]


def test_graph_is_sent_again_after_a_buffer_was_freed(
    client: Client, sent: Sent
) -> None:
    squares = Squares(client)
    other, payload, uid = client.allocate(64), squares.encoded(1), new_uid()
    client.run(payload, uid)
    client.free(other)
    client.run(payload, uid)
    assert squares.result() == 1.5**2
    assert sent == [m.GraphCompute, m.GraphCompute]
