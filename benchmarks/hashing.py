"""Speed of the cache's hash: the C loop of llama.cpp's own server against ggrpc.

    python -m benchmarks.hashing [--mib N] [--rounds N] [--device opencl:0]

All hash the same bytes, in turns. Prints the median of MB/s and of the ratios to C.
Needs a C compiler, `cc`.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ggrpc.devices.block_hash import PRIME
from ggrpc.devices.catalogue import Choices, open_devices
from ggrpc.engine.cache.fnv1a import BASIS, Hasher

LOOP = f"""
unsigned long long fnv1a(const unsigned char *data, unsigned long size) {{
    unsigned long long hash = {BASIS}u;
    for (unsigned long i = 0; i < size; i++) hash = (hash ^ data[i]) * {PRIME}u;
    return hash;
}}
"""

Hash = Callable[[bytes], int]


def loop_in_c(folder: Path) -> Hash:
    """The loop, compiled as llama.cpp is."""
    source, library = folder / "loop.c", folder / "loop.so"
    source.write_text(LOOP)
    command = ["cc", "-O3", "-shared", "-fPIC", source, "-o", library]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).fnv1a
    function.restype = ctypes.c_uint64
    function.argtypes = ctypes.c_char_p, ctypes.c_ulong
    return lambda data: int(function(data, len(data)))


def hash_of(device: str | None) -> Hash:
    """The hash of ggrpc, on a device if one is named."""
    fast = open_devices(device, Choices())[0].block_hash() if device else None

    def hash(data: bytes) -> int:
        hasher = Hasher(fast)
        hasher.update(data)
        return hasher.value

    return hash


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="opencl:0")
    args = parser.parse_args()
    data = np.random.default_rng(0).bytes(args.mib << 20)
    with tempfile.TemporaryDirectory() as folder:
        hashes = {"C": loop_in_c(Path(folder))}
    hashes |= {args.device: hash_of(args.device), "numpy": hash_of(None)}
    if len({hash(data) for hash in hashes.values()}) > 1:  # this also warms them up
        sys.exit("the implementations return different hashes")
    rates: dict[str, list[float]] = {name: [] for name in hashes}
    for _ in range(args.rounds):
        for name, hash in hashes.items():
            start = time.perf_counter()
            hash(data)
            rates[name].append(len(data) / 1e6 / (time.perf_counter() - start))
    for name, each in rates.items():
        ratios = [a / b for a, b in zip(each, rates["C"], strict=True)]
        print(
            f"{name}: {statistics.median(each):.0f} MB/s, "
            f"ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
