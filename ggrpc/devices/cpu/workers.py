"""A pool of threads that run the independent tasks of large steps in parallel.

Tasks spend their time in numpy, which releases the GIL. BLAS has its own threads,
normally as many as the pool. While tasks run it has only one, because contention inside
BLAS would double the time.
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
    """A pool of threads; the thread that calls `run` works as well.

    Args:
        threads: the number of threads, including that of the caller; None for the
            number of processors that this process may use.

    Attributes:
        threads: the number of threads.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or _available_threads()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._helpers: list[Thread] = []
        self._starting = Lock()
        self._blas = _Blas(self.threads)

    def run(self, tasks: Iterable[Step]) -> None:
        """Run tasks, and wait for all of them. Several threads may call this at once.

        After all tasks have ended, the first exception of a task is raised.
        """
        job = _Job(list(tasks))
        helpers = min(job.left, self.threads) - 1
        if helpers > 0:
            self._start()
        with self._blas.single_threaded():
            for _ in range(helpers):
                self._queue.put(job)
            job.work()
            job.wait()

    def close(self) -> None:
        """End the threads, and restore the number of BLAS threads."""
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
        np.seterr(all="ignore")  # as in `CpuProgram`; the setting is per thread
        while (job := self._queue.get()) is not None:
            job.work()


class _Blas:
    """The number of BLAS threads, which applies to the whole process."""

    def __init__(self, threads: int) -> None:
        blas = ThreadpoolController().select(user_api="blas")
        self._libraries = [(lib, lib.num_threads) for lib in blas.lib_controllers]
        self._threads = threads
        self._users = 0
        self._changing = Lock()
        self._set(threads)

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """Set the number to 1 until the last of all concurrent blocks has ended."""
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
        """Set the original number."""
        for library, threads in self._libraries:
            library.set_num_threads(threads)

    def _set(self, threads: int) -> None:
        for library, _ in self._libraries:
            library.set_num_threads(threads)


class _Job:
    """The tasks of one call of `run`, which several threads take from a list."""

    def __init__(self, tasks: list[Step]) -> None:
        tasks.reverse()
        self.left = len(tasks)
        self._tasks = tasks
        self._error: BaseException | None = None
        self._counting = Lock()
        self._finished = Lock()
        if tasks:
            self._finished.acquire()

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
                    self._finished.release()

    def wait(self) -> None:
        with self._finished:
            if self._error is not None:
                raise self._error


def _available_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
