"""Tokens per second of whole models: llama.cpp's own server against `ggrpc serve`.

    python -m benchmarks.generate [TYPE ...] [--tokens N] [--prompt N] [--rounds N]

A 1.1B llama with random weights of each type, the stock llama.cpp client, and both
servers on this machine with the same number of threads. They take turns with a loop
that reads as many bytes as a token does, the limit of decoding. Prints each round, and
the table of docs/speed.md: the medians, ratios, and the share of the limit. Needs a C
compiler and the peer: .ci/install-peer 0.3.36
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.matvec import BYTES, loop, seconds
from benchmarks.random_model import Shape, bytes_per_token, write_model
from ggrpc.endpoint import Endpoint
from ggrpc.types import GGMLType
from tests.support.paths import CACHE, peer_python, shared
from tests.support.processes import native_serving, serving

SIDES = ("native", "ggrpc")
CLIENT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import llama_cpp
from llama_client import register
register(sys.argv[3])
prompt, tokens, threads = map(int, sys.argv[4:7])
llama = llama_cpp.Llama(sys.argv[2], n_gpu_layers=-1, n_ctx=2048, n_batch=512,
                        n_threads=threads, seed=1, verbose=False)
def timed(tokens):
    start = time.perf_counter()
    for chunk in tokens:
        llama.eval(chunk)
    llama_cpp.llama_synchronize(llama.ctx)  # a graph has no reply
    return sum(map(len, tokens)) / (time.perf_counter() - start)
words = [5 + 7 * i % 20000 for i in range(prompt)]
llama.eval([1])  # warm up: unpack weights, build graphs
llama.eval([2])
llama_cpp.llama_synchronize(llama.ctx)
llama.reset()
prompt_rate = timed([words]) if words else 0
llama.eval([3])
llama_cpp.llama_synchronize(llama.ctx)
print(json.dumps([prompt_rate, timed([[4 + i] for i in range(tokens)])]))
"""


def rates(endpoint: Endpoint, model: Path, args: argparse.Namespace) -> list[float]:
    """Tokens per second of one round: prompt, decode."""
    command = [
        peer_python(args.peer),
        "-c",
        CLIENT,
        shared("peer"),
        model,
        str(endpoint),
        str(args.prompt),
        str(args.tokens),
        str(args.threads),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))


class Round(NamedTuple):
    """Tokens per second of one turn of each server, and the limit of decoding."""

    native: Sequence[float]  # prompt, decode
    ggrpc: Sequence[float]
    limit: float


def rounds_of(name: str, read: Callable[[], None], args: Any) -> Iterator[Round]:
    """Measure a model, of which the type may be a mixture."""
    mixed = name.endswith("_M")
    type = GGMLType[name.removesuffix("_M")]
    threads = ("--threads", str(args.threads))
    with (
        tempfile.TemporaryDirectory(dir=CACHE) as folder,
        native_serving(args.peer, *threads) as native,
        serving(*threads, "--protocol", args.protocol, device=args.device) as served,
    ):
        path = Path(folder) / "model.gguf"
        model = write_model(path, type, Shape(), mixed=mixed)
        for _ in range(args.rounds):
            both = [rates(e, model, args) for e in (native, served.endpoint)]
            limit = BYTES / seconds(read) / bytes_per_token(model)
            yield Round(*both, limit)


def row(name: str, phase: int, rounds: Sequence[Round]) -> str:
    """A row of the table: the medians of all rounds, and the range of the ratios."""
    native, ggrpc = ([getattr(r, side)[phase] for r in rounds] for side in SIDES)
    ratios = sorted(b / a for a, b in zip(native, ggrpc, strict=True))
    cells = [name, ("prompt", "decode")[phase]]
    cells += [f"{statistics.median(rates):.1f}" for rates in (native, ggrpc)]
    cells.append(
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    limit = statistics.median(r.limit for r in rounds)
    share = statistics.median(r.ggrpc[1] / r.limit for r in rounds)
    cells += [f"{limit:.1f}", f"{share:.0%}"] if phase else ["", ""]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the rounds as they come, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", default=["Q4_K_M", "Q8_0", "Q4_0", "F16"])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="opencl:0")
    parser.add_argument("--peer", default="0.3.36")
    parser.add_argument("--protocol", default="7.0.0", help="that the peer speaks")
    args = parser.parse_args()
    table = []
    with loop(args.threads) as read:
        for name in args.types:
            rounds = []
            for each in rounds_of(name, read, args):
                rounds.append(each)
                print(f"{name} round {len(rounds)}: {each}", flush=True)
            table += [row(name, phase, rounds) for phase in (0, 1)]
    print("| weights | | native | ggrpc | ratio | limit | of the limit |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main()
