"""Milliseconds to decode and validate a graph, and to look it up when it comes again.

    python -m benchmarks.validation [--nodes N] [--rounds N]

The graph is that of a llama with as many layers as the number of nodes requires. Prints
the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from ggrpc.bounds import Region
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device, Program
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.server.graph_store import GraphStore
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.quotas import Reservation, ServerQuota
from ggrpc.engine.wire.dialects import V7_0_0
from ggrpc.engine.wire.graphs import read_graph, write_graph
from ggrpc.graph import Graph
from ggrpc.op import GluOp, Op
from ggrpc.ops.activations import GluParams
from ggrpc.ops.attention import FlashAttnParams
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rope import RopeParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case

EMBD, FF, HEADS, HEAD, KV, CELLS, TOKENS = 256, 512, 8, 32, 2, 256, 4
ROPE = RopeParams(0, HEAD, 0, 0, 4096, 1e4, 1, 0, 1, 32, 1, 0, 0, 0, 0, 0)


class Llama:
    """The graph of a llama, built layer by layer; its leaves have no data."""

    def __init__(self) -> None:
        self.case = Case()
        self.pos = self._leaf((TOKENS,), GGMLType.I32)
        self.cells = self._leaf((TOKENS,), GGMLType.I64)
        self.mask = self._leaf((CELLS, TOKENS), GGMLType.F16)
        self.x = self._leaf((EMBD, TOKENS))

    def _leaf(self, ne: tuple[int, ...], type: GGMLType = GGMLType.F32) -> Tensor:
        return self.case.node(Op.NONE, (), ne, type)

    def layer(self) -> None:
        """Append a layer: attention, then the feed-forward network."""
        node = self.case.node
        x = self._norm(self.x)
        q, k, v = (self._linear(x, n * HEAD) for n in (HEADS, KV, KV))
        q, k = self._rope(q, HEADS), self._rope(k, KV)
        kv = [self._store(k), self._store(self._reshape(v, (HEAD, KV, TOKENS)))]
        q = self.case.permute(q, 0, 2, 1, 3)
        params = FlashAttnParams(HEAD**-0.5, 0, 0, 10)
        ne = (HEAD, HEADS, TOKENS)
        y = node(Op.FLASH_ATTN_EXT, [q, *kv, self.mask], ne, params=params)
        y = self._linear(self._reshape(y, (EMBD, TOKENS)), EMBD)
        self.x = node(Op.ADD, [y, self.x], y.ne)
        x = self._norm(self.x)
        gate, up = self._linear(x, FF), self._linear(x, FF)
        glu = GluParams(GluOp.SWIGLU, 0, 0, 0)
        x = self._linear(node(Op.GLU, [gate, up], gate.ne, params=glu), EMBD)
        self.x = node(Op.ADD, [x, self.x], x.ne)

    def _norm(self, x: Tensor) -> Tensor:
        y = self.case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(1e-5))
        return self.case.node(Op.MUL, [y, self._leaf((EMBD,))], x.ne)

    def _linear(self, x: Tensor, n: int) -> Tensor:
        weight = self._leaf((x.ne[0], n), GGMLType.Q8_0)
        return self.case.node(Op.MUL_MAT, [weight, x], (n, TOKENS))

    def _reshape(self, x: Tensor, ne: tuple[int, ...]) -> Tensor:
        return self.case.node(Op.RESHAPE, [x], ne, inplace_over=None)

    def _rope(self, x: Tensor, heads: int) -> Tensor:
        x = self._reshape(x, (HEAD, heads, TOKENS))
        return self.case.node(Op.ROPE, [x, self.pos], x.ne, params=ROPE)

    def _store(self, x: Tensor) -> Tensor:
        cache = self._leaf((KV * HEAD, CELLS), GGMLType.F16)
        rows = self._reshape(x, (KV * HEAD, TOKENS))
        target = self.case.view(cache, cache.ne)
        sources = [rows, self.cells, target]
        type = GGMLType.F16
        self.case.node(Op.SET_ROWS, sources, cache.ne, type, inplace_over=target)
        view = self.case.view(cache, (HEAD, KV, CELLS), (2, 2 * HEAD, 2 * HEAD * KV))
        return self.case.permute(view, 0, 2, 1, 3)


def llama_graph(nodes: int) -> tuple[Graph, Region]:
    """A graph with at least this number of nodes, and the region of its tensors."""
    llama = Llama()
    while sum(1 for t in llama.case.tensors if t.op) < nodes:
        llama.layer()
    return llama.case.graph(), Region(BASE, llama.case.size)


def fastest(function: Callable[[], object], rounds: int) -> float:
    """Milliseconds of the fastest round."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    """Print a line for each part of the work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    graph, region = llama_graph(args.nodes)
    table, regions = V7_0_0.tables[0], {HANDLE: region}
    payload = write_graph(graph, table, frozenset({"use_count"}))
    decode = fastest(lambda: read_graph(payload, table), args.rounds)
    reader = GraphReader((table,))
    first = fastest(lambda: reader.read(payload, regions), args.rounds)
    device = CpuDevice(threads=1, weight_cache=0)

    def compiled(device: Device, payload: bytes) -> Program:
        return device.compile(Graph({}, ()), {})

    quota = ServerQuota(Limits(), [device]).new_client()
    store = GraphStore(compiled, Reservation(quota.memory))
    store.keep(device, None, payload)
    again = fastest(lambda: store.keep(device, None, bytes(payload)), args.rounds)
    count = f"{len(graph.node_ids)} nodes, {len(graph.tensors)} tensors"
    print(f"{count}, {len(payload) / 1e6:.2f} MB")
    print(f"decode             {decode:8.2f} ms")
    print(f"decode + validate  {first:8.2f} ms")
    print(f"the same again     {again:8.2f} ms")


if __name__ == "__main__":
    main()
