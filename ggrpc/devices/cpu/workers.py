"""The threads that share out a program's large steps.

Tasks are independent of each other, and each spends its time in numpy, which lets the
other threads run meanwhile. BLAS has threads of its own, set to the same number; while
tasks run, to one, or threads that wait for each other in BLAS double the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock, Thread

import numpy as np
from threadpoolctl import ThreadpoolController

Step = Callable[[], object]


class Workers:
    """Up to `threads` threads, of which the caller's own is one.

    Args:
        threads: how many; None for as many as this process may run at once.

    Attributes:
        threads: how many.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or _available_threads()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._helpers: list[Thread] = []
        self._starting = Lock()
        self._blas = _Blas(self.threads)

    def run(self, tasks: Iterable[Step]) -> None:
        """Run tasks until the last one is through; several threads may call it at once.

        Raises:
            BaseException: the first that a task raised; the others ran all the same.
        """
        job = _Job(list(tasks))
        helpers = min(job.left, self.threads) - 1
        if helpers > 0:
            self._start()
        with self._blas.to_one():
            for _ in range(helpers):
                self._queue.put(job)
            job.work()
            job.wait()

    def close(self) -> None:
        """End the threads, and give BLAS its own number back."""
        for _ in self._helpers:
            self._queue.put(None)
        for helper in self._helpers:
            helper.join()
        self._helpers.clear()
        self._blas.restore()

    def _start(self) -> None:
        with self._starting:
            while len(self._helpers) < self.threads - 1:
                helper = Thread(target=self._help, name="ggrpc-cpu", daemon=True)
                helper.start()
                self._helpers.append(helper)

    def _help(self) -> None:
        np.seterr(all="ignore")  # as a program does in the thread that runs it
        while (job := self._queue.get()) is not None:
            job.work()


class _Blas:
    """The number of threads that BLAS uses, in all of this process."""

    def __init__(self, threads: int) -> None:
        blas = ThreadpoolController().select(user_api="blas")
        self._libraries = [(lib, lib.num_threads) for lib in blas.lib_controllers]
        self._threads = threads
        self._users = 0
        self._changing = Lock()
        self._set(threads)

    @contextmanager
    def to_one(self) -> Iterator[None]:
        """Set it to one, until the last of those who want it so has left."""
        with self._changing:
            self._users += 1
            self._set(1)
        try:
            yield
        finally:
            with self._changing:
                self._users -= 1
                if not self._users:
                    self._set(self._threads)

    def restore(self) -> None:
        """Set it to what it was."""
        for library, threads in self._libraries:
            library.set_num_threads(threads)

    def _set(self, threads: int) -> None:
        for library, _ in self._libraries:
            library.set_num_threads(threads)


class _Job:
    """Tasks that several threads take from the end until none is left."""

    def __init__(self, tasks: list[Step]) -> None:
        tasks.reverse()
        self.left = len(tasks)
        self._tasks = tasks
        self._error: BaseException | None = None
        self._counting = Lock()
        self._through = Lock()
        if tasks:
            self._through.acquire()

    def work(self) -> None:
        while self._tasks:
            try:
                task = self._tasks.pop()
            except IndexError:  # another thread took the last one
                return
            try:
                task()
            except BaseException as error:
                self._error = self._error or error
            with self._counting:
                self.left -= 1
                if not self.left:
                    self._through.release()

    def wait(self) -> None:
        with self._through:
            if self._error is not None:
                raise self._error


def _available_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
