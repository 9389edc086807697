"""A profile of programs: the total time that each kind of work took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Row(NamedTuple):
    """The total of one kind of work.

    Attributes:
        what: the kind of work, such as `MUL_MAT Q4_0 matvec`.
        on_device: whether it ran on the device, in parallel with the host.
        times: how often it ran.
        seconds: the total time in seconds.
    """

    what: str
    on_device: bool
    times: int
    seconds: float


class Profile:
    """The totals over many runs of programs.

    Attributes:
        runs: the number of runs.
        running: the time spent in runs, in seconds.
        compiling: the time spent compiling graphs, in seconds.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0.0
        self.compiling = 0.0
        self._seconds: dict[tuple[bool, str], float] = defaultdict(float)
        self._times: dict[tuple[bool, str], int] = defaultdict(int)
        self._began = 0.0
        self._ended = 0.0

    @property
    def between(self) -> float:
        """Seconds from the first run to the last one, minus the runs themselves."""
        return self._ended - self._began - self.running

    @property
    def rows(self) -> list[Row]:
        """The host's rows, then the device's; each sorted by time, longest first."""
        rows = [
            Row(what, on_device, self._times[on_device, what], seconds)
            for (on_device, what), seconds in self._seconds.items()
        ]
        return sorted(rows, key=lambda row: (row.on_device, -row.seconds))

    def add(self, what: str, seconds: float, on_device: bool = False) -> None:
        """Add one piece of work."""
        self._seconds[on_device, what] += seconds
        self._times[on_device, what] += 1

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Time the body as work of the host."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - start)

    @contextmanager
    def run(self) -> Iterator[None]:
        """Time the body as one run of a program."""
        start = time.perf_counter()
        self._began = self._began or start
        try:
            yield
        finally:
            self._ended = time.perf_counter()
            self.running += self._ended - start
            self.runs += 1

    @contextmanager
    def compile(self) -> Iterator[None]:
        """Time the body as the compilation of a program."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.compiling += time.perf_counter() - start

    def lines(self) -> Iterator[str]:
        """The profile as lines of text."""
        yield (
            f"{self.runs} graphs in {self.running:.3f} s, {self.between:.3f} s between "
            f"them; {self.compiling:.3f} s to compile"
        )
        for row in self.rows:
            where = "device" if row.on_device else "host"
            share = row.seconds / max(self.running, 1e-9)
            took = f"{share:6.1%} {row.seconds:8.3f} s"
            yield f"{where:6} {took} {row.times:8} x {row.what}"
