"""Seconds to load a cached model: llama.cpp's own server against `ggrpc serve`.

    python -m benchmarks.loading [--type Q8_0] [--rounds N] [--device NAME]

The model is a 1.1B llama with random weights, and the client is llama.cpp's. The
servers run on this machine, share one cache folder, and take turns, one round each. A
third server is ggrpc with an empty cache and the model's file, `--models`. Each round
starts new servers. Each server loads the model twice, because ggrpc checks entries at
their first use. Then new servers get only the hashes of the same tensors, also twice,
which shows how many GB/s a server loads. Needs the peer: .ci/install-peer 0.3.36
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from benchmarks.random_model import Shape, write_model
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.index import Index
from ggrpc.engine.cache.models import LocalModel
from ggrpc.engine.cache.warming import ModelWeights, warm
from ggrpc.engine.client.registry import connect
from ggrpc.types import GGMLType
from tests.support.paths import CACHE, peer_python, shared
from tests.support.processes import native_serving, serving

CLIENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import llama_cpp
from llama_client import register
register(sys.argv[3])
start = time.perf_counter()
llama = llama_cpp.Llama(sys.argv[2], n_gpu_layers=-1, n_ctx=64, verbose=False)
llama.eval([1])
print(time.perf_counter() - start)
"""

Serving = Callable[[], AbstractContextManager[Endpoint]]


def load(endpoint: Endpoint, model: Path, peer: str) -> float:
    """Seconds that llama.cpp's client takes to load a model and compute a token."""
    command = [peer_python(peer), "-c", CLIENT, shared("peer"), model, str(endpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def hit(endpoint: Endpoint, weights: ModelWeights) -> float:
    """GB/s at which a server loads the tensors that it has, by hash."""
    with connect(endpoint, timeout=60) as server:
        start = time.perf_counter()
        done = warm(server.client, weights)
        seconds = time.perf_counter() - start
    assert not done.sent, f"{endpoint} lacked {done.sent} tensors"
    return done.present_bytes / seconds / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", default="Q8_0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", default="0.3.36")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        model = write_model(folder / "model.gguf", GGMLType[args.type], Shape())
        kept, empty = folder / "kept", folder / "empty"
        for cache in kept, empty:
            cache.mkdir()
        with closing(Index(empty)) as index:
            LocalModel(model, index, Hashing()).hash()

        @contextmanager
        def ours(*flags: str | Path) -> Iterator[Endpoint]:
            with serving("--device", args.device, *map(str, flags)) as served:
                yield served.endpoint

        servers: dict[str, Serving] = {
            "native": lambda: native_serving(args.peer, "--cache", str(kept)),
            "ggrpc": lambda: ours("--cache-dir", kept),
            "ggrpc --models": lambda: ours("--cache-dir", empty, "--models", model),
        }
        with (
            closing(Index(empty)) as index,
            ModelWeights([model], index, Hashing()) as weights,
        ):
            with ours("--cache-dir", kept) as endpoint, connect(endpoint) as server:
                warm(server.client, weights)
            rows: dict[str, list[tuple[float, ...]]] = {}
            for _ in range(args.rounds):
                for name, start in servers.items():
                    with start() as endpoint:
                        seconds = [load(endpoint, model, args.peer) for _ in range(2)]
                    with start() as endpoint:
                        rates = hit(endpoint, weights), hit(endpoint, weights)
                    rows.setdefault(name, []).append((*seconds, *rates))
                    print(name, *(f"{value:.2f}" for value in rows[name][-1]))
    for name, found in rows.items():
        loads, again, hits, later = map(statistics.median, zip(*found, strict=True))
        print(
            f"{name}: loads in {loads:.2f} s, again in {again:.2f} s, "
            f"{hits:.2f} and {later:.2f} GB/s"
        )


if __name__ == "__main__":
    main()
