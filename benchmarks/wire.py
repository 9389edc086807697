"""What the wire costs: bulk transfers, a round trip, the dispatch of a small graph.

    python -m benchmarks.wire [--rounds N] [--peer VERSION]

Runs llama.cpp's own server and `ggrpc serve` side by side, asks them in turn, and
prints the median of each and their ratio. Needs the peer: .ci/install-peer 0.3.36
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from ggrpc.engine.client import Client, connect
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import FLAG_COMPUTE, Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.processes import native_serving, serving

BULK = 64 << 20
NODES = 200
TINY = 32

Measure = Callable[[], None]


def vector(client: Client, id: int, count: int, handle: int, at: int) -> Tensor:
    ne = (count, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    return Tensor(id, GGMLType.F32, handle, ne, nb, data=client.base(handle) + at)


def tiny_graph(client: Client) -> None:
    """Compute NODES additions, one after the other, each of two vectors of TINY."""
    handle = client.allocate((NODES + 1) * TINY * 4)
    tensors = [vector(client, 1, TINY, handle, 0)]
    for i in range(NODES):
        node = vector(client, i + 2, TINY, handle, (i + 1) * TINY * 4)
        src = (tensors[-1].id, 1) + (0,) * 8
        tensors.append(node._replace(op=Op.ADD, src=src, flags=FLAG_COMPUTE))
    client.set_tensor(tensors[0], np.ones(TINY, np.float32).tobytes())
    client.compute(Graph.of(tensors, [t.id for t in tensors[1:]]))
    result = np.empty(TINY, np.float32)
    client.get_tensor(tensors[-1], memoryview(result).cast("B"))
    assert (result == NODES + 1).all(), "the graph was not computed"


def measures(client: Client) -> dict[str, tuple[Measure, str]]:
    """What is timed on one server, by name, with its unit."""
    data = np.random.default_rng(1).integers(0, 255, BULK, np.uint8)
    handle = client.allocate(BULK)
    bulk = vector(client, 1, BULK // 4, handle, 0)
    tiny_graph(client)

    def set_tensor() -> None:
        client.set_tensor(bulk, memoryview(data))
        client.alignment()  # it has no reply of its own

    def get_tensor() -> None:
        client.get_tensor(bulk, memoryview(data))

    def recompute() -> None:
        client.recompute()
        client.alignment()

    return {
        "SET_TENSOR 64 MiB": (set_tensor, "GB/s"),
        "GET_TENSOR 64 MiB": (get_tensor, "GB/s"),
        "GET_DEVICE_MEMORY": (lambda: client.memory() and None, "us"),
        f"GRAPH_RECOMPUTE of {NODES} nodes": (recompute, "us"),
    }


def timed(measure: Measure, repeat: int) -> float:
    """The median seconds of some calls."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        measure()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def shown(seconds: float, unit: str) -> float:
    return BULK / seconds / 1e9 if unit == "GB/s" else seconds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", default="0.3.36")
    args = parser.parse_args()
    with (
        native_serving(args.peer) as native,
        serving() as served,
        connect(native) as theirs,
        connect(served.endpoint) as ours,
    ):
        sides = measures(theirs), measures(ours)
        print(f"{'':32}{'native':>10}{'ggrpc':>10}  {'':5} ratio of speeds")
        for name, (_, unit) in sides[0].items():
            repeat = 3 if unit == "GB/s" else 300
            rounds = [
                [timed(side[name][0], repeat) for side in sides]
                for _ in range(args.rounds)
            ]
            a, b = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratios = sorted(x / y for x, y in rounds)
            print(
                f"{name:32}{shown(a, unit):10.2f}{shown(b, unit):10.2f}  {unit:5} "
                f"{a / b:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
