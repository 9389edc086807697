"""Each op's time on the cpu device, against ggml's CPU in llama.cpp's own server.

    python -m benchmarks.ops [OP ...] [--threads N] [--rounds N]

Ops of language models have a model's sizes, for one token (decode) and 128 (prompt).
All others have the largest of their test cases. Both servers have the same number of
threads, and take turns. A graph contains the op once and is recomputed over the wire.
The time is the fastest of all rounds, and includes the 0.1 ms that every graph takes.
Needs the peer: .ci/install-peer 0.3.36
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.ops.activations import GluOp, UnaryOp
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rope import RopeMode
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support import cases
from tests.support.case import Case
from tests.support.cases import (
    activations,
    arithmetic,
    attention,
    copies,
    experts,
    linear_attention,
    recurrent,
    rope,
)
from tests.support.processes import native_serving, serving

F16, Q4_0, Q4_K, Q8_0 = GGMLType.F16, GGMLType.Q4_0, GGMLType.Q4_K, GGMLType.Q8_0
WIDTH = 2048
TOKENS = {"decode": 1, "prompt": 128}
ROUND_SECONDS = 0.25  # the least time of a round of one op


def plain(op: Op, tokens: int, params: object = None) -> Case:
    """A node with one source, whose result has the same shape."""
    case = Case()
    x = case.leaf((WIDTH, tokens))
    case.node(op, [x], x.ne, params=params)
    return case


def mul_mat(type: GGMLType, tokens: int) -> Case:
    """A square projection."""
    case = Case()
    a, b = case.leaf((WIDTH, WIDTH), type), case.leaf((WIDTH, tokens))
    case.node(Op.MUL_MAT, [a, b], (WIDTH, tokens))
    return case


def rows_of(tokens: int) -> np.ndarray:
    """Distinct rows of a matrix of 512."""
    return np.random.default_rng(1).permutation(512)[:tokens]


# Cases at a model's sizes, given a number of tokens.
SIZED: dict[str, Callable[[int], Case]] = {
    **{
        f"MUL_MAT {t.name}": lambda n, t=t: mul_mat(t, n)
        for t in (GGMLType.F32, F16, Q8_0, Q4_0, Q4_K)
    },
    "MUL_MAT_ID Q8_0": lambda n: experts.mul_mat_id(Q8_0, n, k=512, n=512, n_expert=16),
    "FLASH_ATTN_EXT F16": lambda n: attention.flash_attn(
        n, 1024, (32, 8), types=(F16, F16)
    ),
    "SOFT_MAX": lambda n: attention.soft_max((1024, n, 32)),
    "ROPE NORMAL": lambda n: rope.rope(
        rope.params(RopeMode.NORMAL), heads=32, tokens=n
    ),
    "ROPE NEOX": lambda n: rope.rope(rope.params(RopeMode.NEOX), heads=32, tokens=n),
    "RMS_NORM": lambda n: plain(Op.RMS_NORM, n, NormParams(1e-5)),
    "NORM": lambda n: plain(Op.NORM, n, NormParams(1e-5)),
    "ADD": lambda n: arithmetic.binary(Op.ADD, (WIDTH, n), (WIDTH, n)),
    "MUL": lambda n: arithmetic.binary(Op.MUL, (WIDTH, n), (WIDTH, 1)),
    "GLU SWIGLU": lambda n: activations.glu(GluOp.SWIGLU, shape=(n, 4 * WIDTH)),
    "UNARY SILU": lambda n: activations.unary(UnaryOp.SILU, shape=(n, WIDTH)),
    "UNARY GELU": lambda n: activations.unary(UnaryOp.GELU, shape=(n, WIDTH)),
    "CPY F16": lambda n: copies.cpy(GGMLType.F32, F16, (WIDTH, n)),
    "CPY Q8_0": lambda n: copies.cpy(GGMLType.F32, Q8_0, (WIDTH, n)),
    "GET_ROWS Q8_0": lambda n: copies.get_rows(Q8_0, (WIDTH, 512), rows_of(n)),
    "SET_ROWS F16": lambda n: copies.set_rows(
        F16, (WIDTH, n), (WIDTH, 512), rows_of(n)
    ),
    "SSM_CONV": lambda n: recurrent.conv(n + 3, WIDTH, 4),
    "SSM_SCAN": lambda n: recurrent.scan(16, WIDTH // 32, 32, tokens=n),
    "RWKV_WKV6": lambda n: linear_attention.wkv6(64, 32, n, 1),
    "RWKV_WKV7": lambda n: linear_attention.wkv7(64, 32, n, 1),
    "GATED_LINEAR_ATTN": lambda n: linear_attention.gla(64, 32, n, 1),
    "GATED_DELTA_NET": lambda n: linear_attention.delta_net(64, 16, n, 1),
}


def timed_cases() -> Iterator[tuple[str, Case]]:
    """A name and a case for each op, of several sizes and types for some."""
    for name, make in SIZED.items():
        for phase, tokens in TOKENS.items():
            yield f"{name} {phase}", make(tokens)
    sized = {name.split()[0] for name in SIZED}
    largest: dict[str, Case] = {}
    for case in cases.all_cases().values():
        op = _op_of(case)
        if op not in sized and case.size > getattr(largest.get(op), "size", 0):
            largest[op] = case
    yield from sorted(largest.items())


def _op_of(case: Case) -> str:
    ops = [t.op for t in case.tensors if t.op and contract_of(t.op).computes]
    return ops[-1].name


@contextmanager
def placed(client: Client, case: Case) -> Iterator[Callable[[], None]]:
    """Store a case in a server's memory.

    Tensors that no node writes are in a buffer of their own, as a model's weights are.

    Yields:
        A function that computes the case again and waits for the result.
    """
    computed = {_root(t) for t in case.tensors if t.op and contract_of(t.op).computes}
    wholes = [_filled(client, case) for _ in range(2)]
    tensors = []
    for tensor in case.tensors:
        whole = wholes[_root(tensor) in computed]
        at = {"buffer": whole.buffer, "data": whole.data + tensor.data}
        tensors.append(tensor._replace(**at))
    client.compute(Graph.of(tensors, [t.id for t in tensors if t.op]))
    byte = memoryview(bytearray(1))

    def again() -> None:
        client.recompute()
        client.get_tensor(wholes[1], byte)

    yield again
    for whole in wholes:
        client.free(whole.buffer)


def _root(tensor: Tensor) -> int:
    return tensor.view_src or tensor.id


def _filled(client: Client, case: Case) -> Tensor:
    """A tensor that covers a new buffer with all data of a case."""
    handle = client.allocate(case.size)
    ne = (case.size, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    whole = Tensor(1, GGMLType.I8, handle, ne, nb, data=client.base(handle))
    client.set_tensor(whole, case.image)
    return whole


def fastest(run: Callable[[], None]) -> float:
    """Seconds of the fastest run of a round."""
    best, end = float("inf"), time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def measure(endpoint: Endpoint, case: Case) -> float:
    """Seconds that a server takes for a case, in a new session."""
    with connect(endpoint, timeout=60) as client, placed(client, case) as run:
        run()
        return fastest(run)


def main() -> None:
    """Print a line for each op."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", help="measure only these ops")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", default="0.3.36")
    args = parser.parse_args()
    threads = ("--threads", str(args.threads))
    with native_serving(args.peer, *threads) as native, serving(*threads) as served:
        print(f"{'op':32} {'ggml ms':>9} {'ggrpc ms':>9} {'ggml / ggrpc':>13}")
        for name, case in timed_cases():
            if args.ops and name.split()[0] not in args.ops:
                continue
            turns = [
                (measure(native, case), measure(served.endpoint, case))
                for _ in range(args.rounds)
            ]
            native_ms, ggrpc_ms = (
                1e3 * min(times) for times in zip(*turns, strict=True)
            )
            ratio = native_ms / ggrpc_ms
            print(f"{name:32} {native_ms:9.3f} {ggrpc_ms:9.3f} {ratio:13.2f}")


if __name__ == "__main__":
    main()
