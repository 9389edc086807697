"""Runs valid graphs of every op with random mutations on a device, for a long time.

    python -m tests.fuzz.graphs --seconds 600 --seed 1

Prints each failure once, with the seed that reproduces it. tests/fuzz/test_graphs.py is
the short version.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import time
import traceback
from collections import Counter
from random import Random

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from tests.devices.conftest import open_opencl
from tests.support.cases import all_cases
from tests.support.mutations import mutated, random_image, run_guarded

SLOW_SECONDS = 2.0  # a graph that takes longer is printed
HUNG_SECONDS = 20.0  # after this time the stack is printed
MEMORY = 3 << 30  # bytes of address space in addition to those at the start


def open_device(name: str) -> Device:
    """The device to run on: `cpu`, `opencl`, or `opencl-own` with memory of its own."""
    if name == "cpu":
        return CpuDevice(threads=2, weight_cache=1 << 24)
    return open_opencl(shares_memory=name == "opencl")


def run_seed(device: Device, seed: int, only: str = "") -> tuple[str, str]:
    """Run the graph of a seed; return the name of its case and the outcome."""
    random = Random(seed)
    names = sorted(name for name in all_cases() if only in name)
    name = random.choice(names)
    case = all_cases()[name]
    payload = mutated(case, random, random.choice((1, 1, 2, 3)))
    return name, run_guarded(device, payload, random_image(case, random))


def main() -> None:
    """Run for the given time or number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1 << 62)
    parser.add_argument("--only", default="", help="part of a case's name")
    devices = ("cpu", "opencl", "opencl-own")
    parser.add_argument("--device", default="cpu", choices=devices)
    arguments = parser.parse_args()
    device = open_device(arguments.device)
    all_cases()
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    seen: Counter[str] = Counter()
    end, seed = time.monotonic() + arguments.seconds, arguments.seed
    while time.monotonic() < end and seed < arguments.seed + arguments.count:
        start, finding = time.perf_counter(), ""
        faulthandler.dump_traceback_later(HUNG_SECONDS)
        try:
            name, outcome = run_seed(device, seed, arguments.only)
            seen[outcome.split(":")[0]] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frame if "/ggrpc/" in f.filename] or frame
            where = " < ".join(f"{f.name}:{f.lineno}" for f in ours[:-4:-1])
            finding = f"{type(error).__name__}: {error} at {where}"
        if time.perf_counter() - start > SLOW_SECONDS:
            print(
                f"seed {seed}: {time.perf_counter() - start:.1f} s {name}", flush=True
            )
        if finding:
            key = finding.split(" at ")[-1]
            seen[key] += 1
            if seen[key] == 1:
                print(f"seed {seed}: {finding}", flush=True)
        seed += 1
    print(f"{seed - arguments.seed} graphs; {dict(seen.most_common(40))}")


if __name__ == "__main__":
    main()
