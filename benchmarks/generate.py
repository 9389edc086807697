"""Tokens per second of a whole model: llama.cpp's own server against `ggrpc serve`.

    python -m benchmarks.generate [--type Q8_0] [--tokens N] [--prompt N] [--rounds N]

The model is a 1.1B llama with random weights, and the client is llama.cpp's. Both
servers run on this machine with the same number of threads, and take turns, one round
each. Prints each round, the medians and the ratio. Needs the peer:
.ci/install-peer 0.3.36
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.random_model import Shape, write_model
from ggrpc.endpoint import Endpoint
from ggrpc.types import GGMLType
from tests.support.paths import CACHE, peer_python, shared
from tests.support.processes import native_serving, serving

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", default="Q8_0")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="opencl:0")
    parser.add_argument("--peer", default="0.3.36")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        model = write_model(Path(folder) / "model.gguf", GGMLType[args.type], Shape())
        with (
            native_serving(args.peer, "--threads", str(args.threads)) as native,
            serving("--threads", str(args.threads), "--device", args.device) as served,
        ):
            rounds = []
            for i in range(args.rounds):
                pair = [rates(e, model, args) for e in (native, served.endpoint)]
                rounds.append(pair)
                print(f"round {i + 1}: native {pair[0]}, ggrpc {pair[1]}", flush=True)
    for at, what in enumerate(("prompt", "decode")):
        theirs, ours = (
            statistics.median(pair[side][at] for pair in rounds) for side in (0, 1)
        )
        if theirs:
            print(
                f"{args.type} {what}: native {theirs:.2f} t/s, ggrpc {ours:.2f} t/s, "
                f"ratio {ours / theirs:.2f}"
            )


if __name__ == "__main__":
    main()
