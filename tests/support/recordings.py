"""Recordings made by `ggrpc record` in a process of its own, or in this one."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import ggrpc
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.recording import recorder as engine
from ggrpc.engine.recording.recorder import RecorderSettings
from ggrpc.engine.recording.weight_recording import WeightRecording
from tests.support.background import in_background
from tests.support.servers import running


class Recorder:
    """A process that runs `ggrpc record`.

    Args:
        server: the server to forward to.
        path: the file to write.
        flags: more arguments.
        max_bytes: the largest size of the file; None for no limit.

    Attributes:
        process: the process.
        endpoint: the address that clients connect to.
    """

    def __init__(
        self, server: Endpoint, path: Path, *flags: str, max_bytes: int | None = None
    ) -> None:
        command = ["record", "0", str(server), "-o", str(path), *flags]
        limit = ["prlimit", f"--fsize={max_bytes}"] if max_bytes else []
        self.process = subprocess.Popen(
            [*limit, sys.executable, "-m", "ggrpc", *command],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"listening on (\S+),", line)
        assert found, line + self.process.stderr.read()
        self.endpoint = Endpoint.parse(found[1])

    def wait(self) -> tuple[int, str]:
        """Wait for the process to end; returns its exit code and stderr."""
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr

    def stop(self) -> tuple[int, str]:
        """Interrupt the process, as Ctrl-C does; returns its exit code and stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()


@contextlib.contextmanager
def recording(server: Endpoint, path: Path, *flags: str) -> Iterator[Recorder]:
    """Run a recorder, and interrupt it at the end of the context."""
    recorder = Recorder(server, path, *flags)
    try:
        yield recorder
    finally:
        running = recorder.process.poll() is None
        code, stderr = recorder.stop() if running else (0, "")
    assert code == 0, stderr


def compute(endpoint: Endpoint, steps: int = 3, rows: int = 8) -> None:
    """Multiply with a weight on the first device, `steps` times."""
    rng = np.random.default_rng(5)
    g = ggrpc.GraphBuilder()
    w, x = g.tensor("F32", 64, rows, name="w"), g.tensor("F32", 64, 2, name="x")
    y = g.relu(g.mul_mat(w, x), name="y")
    with ggrpc.connect(endpoint, timeout=20) as server:
        device = server.device()
        values = rng.standard_normal((rows, 64), np.float32)
        with (
            ggrpc.DeviceTensor.of(device, values) as weight,
            ggrpc.Computation(g, {w: weight}) as computation,
        ):
            for _ in range(steps):
                computation.run({x: rng.standard_normal((2, 64))})[y]


@contextlib.contextmanager
def recording_here(settings: RecorderSettings) -> Iterator[Endpoint]:
    """Record in this process; yields the address that clients connect to."""
    with in_background(engine.Recorder(settings)) as endpoint:
        yield endpoint


def recorded_here(
    path: Path,
    weights: WeightRecording = WeightRecording.FULL,
    devices: Sequence[Device] = (),
    client: Callable[[Endpoint], object] = compute,
) -> Path:
    """Record a client's session with a server in this process."""
    with running(*devices, host="127.0.0.1") as server:
        settings = RecorderSettings(
            Endpoint("127.0.0.1", 0), server, path, weights=weights
        )
        with recording_here(settings) as listen:
            client(listen)
    return path
