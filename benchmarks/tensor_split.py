"""Tokens per second with `-sm tensor`: two native servers against two `ggrpc serve`.

    python -m benchmarks.tensor_split [--model GGUF] [--tokens N] [--rounds N]

llama.cpp's client of 8.0.0 splits each tensor over two servers on this machine, which
add their parts over a link. The two pairs of servers take turns, one round each. Each
server has `--threads` threads, for PoCL too. The default model is a 1.1B llama with
random weights. Prints each round, the medians, and the median and spread of the ratios
of the rounds. Needs the peer: .ci/install-peer 2026.10.11549
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.random_model import Shape, write_model
from ggrpc.endpoint import Endpoint
from ggrpc.types import GGMLType
from tests.support.paths import CACHE, NEWEST, peer_environment, peer_python, shared
from tests.support.processes import native_serving, serving

CLIENT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import llama_client
import llama_cpp
prompt, tokens = map(int, sys.argv[3:5])
for endpoint in sys.argv[5:]:
    llama_client.register(endpoint)
llama = llama_cpp.Llama(sys.argv[2], n_gpu_layers=-1, n_ctx=1024, n_batch=512,
                        split_mode=3, flash_attn=True, n_threads=1, seed=1)
def timed(tokens):
    start = time.perf_counter()
    for chunk in tokens:
        llama.eval(chunk)
        llama_cpp.llama_get_logits_ith(llama.ctx, -1)
    return sum(map(len, tokens)) / (time.perf_counter() - start)
words = [5 + 7 * i % 20000 for i in range(prompt)]
timed([words, [1], [2], [3]])  # warm up: unpack weights, build graphs
llama.reset()
print(json.dumps([timed([words]), timed([[4 + i] for i in range(tokens)])]))
"""
LINKED = "pairwise communicator initialized"


def rates(
    endpoints: tuple[Endpoint, Endpoint], model: Path, args: argparse.Namespace
) -> list[float]:
    """Tokens per second of one round: prompt, decode."""
    numbers = map(str, (args.prompt, args.tokens, *endpoints))
    command = [peer_python(NEWEST), "-c", CLIENT, shared("peer"), model, *numbers]
    done = subprocess.run(
        command, capture_output=True, text=True, env=peer_environment(NEWEST)
    )
    if done.returncode or LINKED not in done.stderr:
        sys.exit(done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def servers(args: argparse.Namespace) -> Iterator[list[tuple[Endpoint, Endpoint]]]:
    """A pair of native servers, and a pair of `ggrpc serve`."""
    threads = str(args.threads)
    os.environ["POCL_MAX_PTHREAD_COUNT"] = threads
    flags = ("--threads", threads, "--device", args.device)
    with ExitStack() as stack:
        native = [
            stack.enter_context(native_serving(NEWEST, "--threads", threads))
            for _ in range(2)
        ]
        ours = [stack.enter_context(serving(*flags)).endpoint for _ in range(2)]
        yield [(native[0], native[1]), (ours[0], ours[1])]


def report(what: str, pairs: list[list[float]]) -> None:
    theirs, ours = map(statistics.median, zip(*pairs, strict=True))
    ratios = sorted(own / native for native, own in pairs)
    print(
        f"{what}: native {theirs:.2f} t/s, ggrpc {ours:.2f} t/s, ratio "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="opencl:0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        model = args.model or write_model(
            Path(folder) / "model.gguf", GGMLType.Q8_0, Shape()
        )
        rounds = []
        with servers(args) as both:
            for i in range(args.rounds):
                pair = [rates(endpoints, model, args) for endpoints in both]
                rounds.append(pair)
                print(f"round {i + 1}: native {pair[0]}, ggrpc {pair[1]}", flush=True)
    for at, what in enumerate(("prompt", "decode")):
        report(what, [[side[at] for side in pair] for pair in rounds])


if __name__ == "__main__":
    main()
