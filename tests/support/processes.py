"""Processes of servers and clients, on loopback and free ports."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ggrpc.endpoint import Endpoint
from tests.support.certificates import Certificates
from tests.support.paths import (
    SHARED,
    peer_client,
    peer_environment,
    peer_python,
    shared,
)

START_SECONDS = 30
GENERATE_SECONDS = 120
# Runs a script that dies of SIGPIPE, as llama.cpp's own program does. Python ignores
# this signal by default.
AS_A_PROGRAM = (
    "import runpy, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
    "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
# The client for models that encode; the peer has one for all other models.
ENCODER = Path(__file__).with_name("llama_encoder.py")


class Served:
    """A `ggrpc serve` process that compiles no kernels before they are needed.

    Args:
        arguments: its flags.
        state: the folder for what it learns of clients.
        prefix: a command that starts it, such as prlimit.
    """

    def __init__(
        self, arguments: Sequence[str], state: str, prefix: Sequence[str] = ()
    ) -> None:
        command = [*prefix, sys.executable, "-m", "ggrpc", "serve", "-p", "0"]
        self.process = subprocess.Popen(
            [*command, "--no-warm-up", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "XDG_STATE_HOME": state},
        )
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._endpoint: Endpoint | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def endpoint(self) -> Endpoint:
        """The address that it listens on; waits until it does."""
        assert self._listening.wait(START_SECONDS), self.log
        assert self._endpoint is not None, self.log
        return self._endpoint

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for_line(self, text: str, seconds: float = 10) -> None:
        """Wait until the log contains `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, f"no '{text}' in:\n{self.log}"
            time.sleep(0.01)

    def stop(self) -> int:
        """Stop it with SIGTERM; returns its exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"does not stop:\n{self.log}") from None
        self._reader.join(START_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on ([^\s\"]+)", line)
            if found and self._endpoint is None:
                self._endpoint = Endpoint.parse(found[1])
                self._listening.set()
        self._listening.set()


@contextlib.contextmanager
def serving(
    *arguments: str, state: Path | None = None, device: str | None = "cpu"
) -> Iterator[Served]:
    """Run `ggrpc serve` until the block ends, and check that it exits with 0.

    Args:
        arguments: its flags; they override `device`.
        state: the folder in which it remembers clients; None for a temporary one.
        device: the device to serve; None for the server's default.
    """
    chosen = () if device is None else ("--device", device)
    with tempfile.TemporaryDirectory() as nowhere:
        served = Served((*chosen, *arguments), str(state or nowhere))
        try:
            yield served
        finally:
            code = served.stop()
        assert code == 0, served.log


@contextlib.contextmanager
def native_serving(version: str, *arguments: str) -> Iterator[Endpoint]:
    """Run llama.cpp's own server, of a version of the peer."""
    endpoint = Endpoint("127.0.0.1", free_port())
    script = shared("peer/native_server.py")
    process = subprocess.Popen(
        [peer_python(version), "-c", AS_A_PROGRAM, script, str(endpoint), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=peer_environment(version),
    )
    try:
        _wait_until_open(endpoint, process)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def tunnel_to(
    server: Endpoint, files: Certificates
) -> Iterator[tuple[subprocess.Popen[str], Endpoint]]:
    """A `ggrpc tunnel` process, and its plain port."""
    flags = ["--tls-ca", files.ca, "--tls-cert", files.client]
    with subprocess.Popen(
        [sys.executable, "-m", "ggrpc", "tunnel", "0", str(server), *flags],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = re.search(r"listening on (\S+), for ", process.stderr.readline())
        assert found
        try:
            yield process, Endpoint.parse(found[1])
        finally:
            process.terminate()
        assert process.stderr.read().endswith(" INFO stopped\n")
        assert process.wait(20) == 0


def start_client(
    version: str,
    model: Path,
    out: Path,
    predict: int,
    *endpoints: Endpoint | str,
    script: Path | None = None,
) -> subprocess.Popen[str]:
    """Start llama.cpp's own client with every layer on the endpoints."""
    return subprocess.Popen(
        [
            peer_python(version),
            script or peer_client(version),
            model,
            out,
            str(predict),
            *map(str, endpoints),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **peer_environment(version),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(SHARED / "peer"),
        },
    )


def finish_client(
    process: subprocess.Popen[str], out: Path
) -> tuple[list[int], np.ndarray]:
    """Wait for a client.

    Returns:
        The tokens, and the logits of each step, float32 (steps, n_vocab).
    """
    stdout, stderr = process.communicate(timeout=GENERATE_SECONDS)
    assert process.returncode == 0, stderr
    return ast.literal_eval(stdout.strip().splitlines()[-1]), np.load(out)


def generate(
    version: str,
    model: Path,
    out: Path,
    predict: int,
    *endpoints: Endpoint | str,
    script: Path | None = None,
) -> tuple[list[int], np.ndarray]:
    """Generate with llama.cpp's own client; `local` is llama.cpp's own CPU."""
    client = start_client(version, model, out, predict, *endpoints, script=script)
    return finish_client(client, out)


def free_port() -> int:
    """A free port, below the range from which the system assigns ports to clients."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def _wait_until_open(endpoint: Endpoint, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"the native server on {endpoint} ended"
        try:
            socket.create_connection(endpoint, 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"no server listens on {endpoint}"
            time.sleep(0.05)
