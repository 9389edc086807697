"""Commands of ggrpc as processes that end by themselves, or are interrupted."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from ggrpc.endpoint import Endpoint
from tests.support.command_lines import FORWARDING, SHELL, Files, arguments
from tests.support.waiting import wait_until

SECONDS = 60.0  # within which a command connects, or ends

NO_VARIABLES: Mapping[str, str] = {}


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: the exit code; of a command that forwards, that of its client.
        err: what it wrote to stderr; of a command that forwards, what its client wrote.
        log: what a command that forwards wrote to stderr.
    """

    code: int
    err: str
    log: str = ""


class RunningCommand:
    """A command that works with a server.

    A command that forwards has a client, `ggrpc mem`.

    Args:
        name: a key of `LINES`.
        server: the server.
        files: the files in the command line.
        timeout: the seconds of --timeout.
        variables: more variables of the environment.
    """

    def __init__(
        self,
        name: str,
        server: Endpoint,
        files: Files,
        timeout: float,
        variables: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        self._server = server
        self._process = _start(arguments(name, server, files, timeout), variables)
        if name == "shell":
            assert self._process.stdin is not None
            self._process.stdin.write(SHELL)
            self._process.stdin.flush()
        self._client: subprocess.Popen[str] | None = None
        self._log = ""
        self._signalled = False
        if name in FORWARDING:
            self._near = self._listening()
            mem = arguments("mem", self._near, files, timeout)
            self._client = _start(mem, NO_VARIABLES)

    def end(self) -> Ended:
        """Wait until it has done its work; a command that forwards is then stopped."""
        if not self._client:
            return self._end(self._process)
        ended = self._end(self._client)
        if not self._signalled:  # the second signal would end it at once
            self._process.send_signal(signal.SIGINT)
        forwarding = self._end(self._process)
        assert forwarding.code in (0, -signal.SIGKILL), forwarding.err
        return ended._replace(log=self._log + forwarding.err)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal while the command is connected, or when it has ended."""
        wait_until(self._is_at_work, SECONDS)
        self._process.send_signal(number)
        self._signalled = True

    def _is_at_work(self) -> bool:
        if self._client and self._client.poll() is not None:
            return True
        if self._client and not _is_connected(self._client, self._near):
            return False
        return _is_connected(self._process, self._server)

    def _listening(self) -> Endpoint:
        assert self._process.stderr is not None
        while not (found := re.search(r"listening on (\S+), for ", self._log)):
            line = self._process.stderr.readline()
            assert line, self._log
            self._log += line
        return Endpoint.parse(found[1])

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> Ended:
        """Wait for the end of a process, of which nothing may be left."""
        try:
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        # A signal may meet the interpreter before or after ggrpc is at work.
        assert "unexpected" not in err, err
        assert _session(process.pid) == []
        return Ended(process.returncode, err)


def _start(
    arguments: Sequence[str], variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    # Coverage would be interrupted while it saves what it has measured.
    measured = ("COV_", "COVERAGE_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(measured)}
    return subprocess.Popen(
        [sys.executable, "-m", "ggrpc", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**env, **variables},
        start_new_session=True,  # so that what it starts can be found
    )


def _is_connected(process: subprocess.Popen[str], to: Endpoint) -> bool:
    """Whether a process has a connection, or is over already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        connections = psutil.Process(process.pid).net_connections("tcp")
        established = (c for c in connections if c.status == psutil.CONN_ESTABLISHED)
        if not any(c.raddr.port == to.port for c in established):
            return process.poll() is not None
    return True


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found
