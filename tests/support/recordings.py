"""Recordings: by `ggrpc record` as a process, or in this one."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import ggrpc
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.recording import recorder as engine
from ggrpc.engine.recording.framing import WeightRecording
from ggrpc.engine.recording.recorder import RecorderSettings
from tests.support.servers import running


class Recorder:
    """A running recorder.

    Args:
        server: where it takes clients.
        path: the file.
        flags: what else is said to it.
        room: the bytes that the file may have, None for no limit.

    Attributes:
        process: it.
        endpoint: where clients connect.
    """

    def __init__(
        self, server: Endpoint, path: Path, *flags: str, room: int | None = None
    ) -> None:
        command = ["record", "0", str(server), "-o", str(path), *flags]
        limit = ["prlimit", f"--fsize={room}"] if room else []
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
        """Wait for its end; the exit code and what it said."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def stop(self) -> tuple[int, str]:
        """End it as an operator would."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()


@contextlib.contextmanager
def recording(server: Endpoint, path: Path, *flags: str) -> Iterator[Recorder]:
    """Run one, and end it."""
    recorder = Recorder(server, path, *flags)
    try:
        yield recorder
    finally:
        running = recorder.process.poll() is None
        code, said = recorder.stop() if running else (0, "")
    assert code == 0, said


def compute(endpoint: Endpoint, steps: int = 3, rows: int = 8) -> None:
    """A client that multiplies with a weight, `steps` times, on the first device."""
    rng = np.random.default_rng(5)
    g = ggrpc.GraphBuilder()
    w, x = g.tensor("F32", 64, rows, name="w"), g.tensor("F32", 64, 2, name="x")
    y = g.relu(g.mul_mat(w, x), name="y")
    with ggrpc.connect(endpoint, timeout=20) as server:
        device = server.device()
        values = rng.standard_normal((rows, 64), np.float32)
        with ggrpc.DeviceTensor.of(device, values) as weight:
            with ggrpc.Computation(g, {w: weight}) as computation:
                for _ in range(steps):
                    computation.run({x: rng.standard_normal((2, 64))})[y]


@contextlib.contextmanager
def recording_here(settings: RecorderSettings) -> Iterator[Endpoint]:
    """Record in this process; yields where clients connect."""
    recorder = engine.Recorder(settings)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    try:
        yield recorder.endpoints[0]
    finally:
        recorder.stop()
        thread.join(20)
        assert not thread.is_alive()


def recorded_here(
    path: Path,
    weights: WeightRecording = WeightRecording.FULL,
    devices: Sequence[Device] = (),
    client: Callable[[Endpoint], object] = compute,
) -> Path:
    """A recording of a client's session with a server of this process."""
    with running(*devices, host="127.0.0.1") as server:
        settings = RecorderSettings(
            Endpoint("127.0.0.1", 0), server, path, weights=weights
        )
        with recording_here(settings) as listen:
            client(listen)
    return path
