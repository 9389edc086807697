from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
import pytest

from ggrpc.building import GraphBuilder
from ggrpc.devices.opencl.runtime.build import Builder
from ggrpc.devices.opencl.runtime.discovery import unusable_reason
from ggrpc.devices.opencl.runtime.signals import ENDING
from ggrpc.engine.compute.computation import Computation
from tests.devices.conftest import open_opencl
from tests.support.drivers import usable_device

# Runs a linker as a driver does, and says so when it is at work.
LINKING = """
import subprocess, sys
from ggrpc.devices.opencl.runtime.signals import signals_blocked

linker = "print('linking', flush=True); input(); print('linked')"
with signals_blocked():
    subprocess.run([sys.executable, "-c", linker], check=True)
print("not interrupted")
"""


@pytest.mark.parametrize("number", ENDING)
def test_linker_survives_a_signal_to_the_process_group(number: signal.Signals) -> None:
    """The process itself gets the signal when the linker is done."""
    process = subprocess.Popen(
        [sys.executable, "-c", LINKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "linking\n"
    os.killpg(process.pid, number)  # as a terminal or a supervisor does
    out, _ = process.communicate("\n", timeout=30)
    assert (process.returncode, out) == (-number, "linked\n")


def build() -> None:
    Builder(cl.Context([usable_device().device])).program("proof")


def find() -> None:
    assert unusable_reason(usable_device()) is None


def hash_bytes() -> None:
    with open_opencl() as device:
        hashing = device.block_hash()
        hashing.update(0, bytes(hashing.min_size))


def compute() -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 32)
    y = g.relu(x)
    with open_opencl() as device, Computation(g, devices=[device]) as computation:
        computation.run({x: np.ones(32)})[y]


@pytest.mark.parametrize("work", [build, find, hash_bytes, compute])
def test_driver_builds_and_launches_with_signals_blocked(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]
) -> None:
    """The thread that builds or launches a kernel may be the one that links it."""
    usable_device()  # or skip
    held: list[set[int]] = []

    def watch(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> object:
            held.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            return call(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    watch(cl.Program, "build")
    watch(cl.Kernel, "__call__")
    watch(cl, "enqueue_nd_range_kernel")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    work()
    assert held
    assert all(mask.issuperset(ENDING) for mask in held)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


# Prints the signals that each thread but the main one blocks.
THREADS = """
import os
from pathlib import Path
from ggrpc.devices.opencl.runtime.discovery import discover, unusable_reason

main = os.listdir("/proc/self/task")
for found in discover():
    unusable_reason(found)
for task in {*os.listdir("/proc/self/task")} - {*main}:
    status = Path("/proc/self/task", task, "status").read_text()
    print(int(status.split("SigBlk:")[1].split()[0], 16))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_threads_of_the_driver_hold_signals_for_their_linkers() -> None:
    if not usable_device().is_cpu:
        pytest.skip("needs a driver that computes in threads of this process")
    out = subprocess.check_output([sys.executable, "-c", THREADS], text=True)
    masks = [int(line) for line in out.split()]
    assert masks
    wanted = sum(1 << (number - 1) for number in ENDING)
    assert all(mask & wanted == wanted for mask in masks), list(map(hex, masks))
