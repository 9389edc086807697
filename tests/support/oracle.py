"""Runs a case on a server, such as llama.cpp's own, to compare with its results."""

from __future__ import annotations

from ggrpc.engine.client.client import Client
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.case import Array, Case


def run_case_on(client: Client, case: Case) -> dict[str, Array]:
    """Run a case on a server.

    Returns:
        The value of each node that computes, as `Case.results` gives them.
    """
    handle = client.allocate(case.size)
    base = client.base(handle)
    graph: Graph = case.graph(base, handle)
    ne = (case.size, 1, 1, 1)
    whole = Tensor(1, GGMLType.I8, handle, ne, contiguous_nb(GGMLType.I8, ne))
    whole = whole._replace(data=base)
    client.set_tensor(whole, case.image)
    client.compute(graph)
    image = bytearray(case.size)
    client.get_tensor(whole, memoryview(image))
    client.free(handle)
    return case.results(image)
