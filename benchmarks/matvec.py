"""How fast matrix-vector products read their matrices, beside a loop that only reads.

    python -m benchmarks.matvec [TYPE ...] [--device D] [--threads N] [--rounds N]

Decoding a token reads each weight once, so memory's bandwidth is its limit. A program
of a device multiplies many matrices, more than its caches hold, by one row each: alone,
in threes with the same row (queries, keys, values), or as gate and up with their GLU.
The programs take turns with a C loop that reads as many bytes in as many threads.
Prints the medians in GB/s, and their ratio. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ggrpc.building.builder import GraphBuilder
from ggrpc.devices.catalogue import Choices, opened_devices
from ggrpc.devices.device import Device, Placed, Program
from ggrpc.formats.numpy_values import quantize
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

BASE, HANDLE = 1 << 40, 1
BYTES = 256 << 20  # of the matrices of a program, far beyond any cache
TYPES = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4"
SHAPES = ((2048, 2048), (2048, 5632), (5632, 2048), (4096, 14336))

LOOP = """
#include <stdint.h>
#include <stddef.h>
uint64_t read_all(const uint64_t *p, size_t n) {
    uint64_t sums[32] = {0};
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (int j = 0; j < 32; j++) sums[j] += p[i + j];
    uint64_t sum = 0;
    for (int j = 0; j < 32; j++) sum += sums[j];
    return sum;
}
"""


def alone(g: GraphBuilder, type: GGMLType, k: int, n: int) -> None:
    """One matrix, and a row of its own."""
    g.mul_mat(g.tensor(type, k, n), g.tensor(GGMLType.F32, k))


def threes(g: GraphBuilder, type: GGMLType, k: int, n: int) -> None:
    """Three matrices that multiply the same row."""
    row = g.tensor(GGMLType.F32, k)
    for _ in range(3):
        g.mul_mat(g.tensor(type, k, n), row)


def gated(g: GraphBuilder, type: GGMLType, k: int, n: int) -> None:
    """Gate and up of the same row, and their GLU."""
    row = g.tensor(GGMLType.F32, k)
    gate, up = g.tensor(type, k, n), g.tensor(type, k, n)
    g.swiglu(g.mul_mat(gate, row), g.mul_mat(up, row))


KINDS = {"alone": alone, "threes": threes, "gated": gated}


@contextmanager
def program(
    device: Device, kind: str, type: GGMLType, k: int, n: int
) -> Iterator[tuple[Program, int]]:
    """A program that multiplies many matrices, and the bytes of these."""
    g, add = GraphBuilder(), KINDS[kind]
    while sum(_matrix_bytes(t) for t in g.tensors) < BYTES:
        add(g, type, k, n)
    graph, size = g.placed(HANDLE, BASE)
    buffer = device.allocate(size)
    rows = np.random.default_rng(1).standard_normal((16, k), np.float32)
    weights = quantize(rows, type) * (n // 16)
    for tensor in graph.tensors.values():
        data = weights if _matrix_bytes(tensor) else _row(tensor)
        with buffer.write(tensor.data - BASE, tensor.nbytes) as view:
            view[:] = data[: tensor.nbytes]
    try:
        made = device.compile(graph, {HANDLE: Placed(BASE, buffer)})
        yield made, sum(map(_matrix_bytes, g.tensors))
    finally:
        buffer.free()


def _matrix_bytes(tensor: Tensor) -> int:
    return tensor.nbytes if not tensor.op and tensor.ne[1] > 1 else 0


def _row(tensor: Tensor) -> bytes:
    return np.random.default_rng(2).standard_normal(tensor.ne[0], np.float32).tobytes()


@contextmanager
def loop(threads: int) -> Iterator[Callable[[], None]]:
    """What reads BYTES bytes in as many threads."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "loop.c"), Path(folder, "loop.so")
        source.write_text(LOOP)
        command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", "-o"]
        subprocess.run([*command, str(library), str(source)], check=True)
        read_all = ctypes.CDLL(str(library)).read_all
    parts = np.array_split(np.ones(BYTES // 8, np.uint64), threads)

    def read(part: np.ndarray) -> None:
        read_all(ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part)))

    def run() -> None:
        readers = [threading.Thread(target=read, args=(part,)) for part in parts]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()

    yield run


def seconds(run: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each type, kind and shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", default=TYPES.split())
    parser.add_argument("--device", default="opencl:0")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    args = parser.parse_args()
    choices = Choices(threads=args.threads)
    with loop(args.threads) as read, opened_devices(args.device, choices) as (device,):
        print(
            f"{'type':8} {'kind':7} {'k x n':>12} {'GB/s':>6} {'loop':>6} {'share':>6}"
        )
        for name in args.types:
            for kind in args.kinds:
                for k, n in SHAPES:
                    with program(device, kind, GGMLType[name], k, n) as (made, size):
                        made.run()
                        turns = [
                            (seconds(made.run), seconds(read))
                            for _ in range(args.rounds)
                        ]
                    ours, limit = map(statistics.median, zip(*turns, strict=True))
                    rate, most = size / ours * 1e-9, BYTES / limit * 1e-9
                    print(
                        f"{name:8} {kind:7} {f'{k} x {n}':>12} {rate:6.1f} "
                        f"{most:6.1f} {rate / most:6.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
