"""`ggrpc record` as a process."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ggrpc.endpoint import Endpoint


class Recorder:
    """A running recorder.

    Attributes:
        process: it.
        endpoint: where clients connect.
    """

    def __init__(self, server: Endpoint, path: Path, *flags: str) -> None:
        command = ["record", "0", str(server), "-o", str(path), *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ggrpc", *command], stderr=subprocess.PIPE, text=True
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
        if recorder.process.poll() is None:
            code, said = recorder.stop()
            assert code == 0, said
