"""The cpu device's threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from threadpoolctl import threadpool_info

from ggrpc.devices.cpu.workers import Workers


@pytest.fixture(params=[1, 2, 4])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    workers = Workers(request.param)
    yield workers
    workers.close()


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_workers_run_each_task_once(workers: Workers, count: int) -> None:
    done: list[int] = []
    workers.run(partial(done.append, i) for i in range(count))
    assert sorted(done) == list(range(count))


def test_workers_run_tasks_at_the_same_time() -> None:
    workers = Workers(3)
    meeting = threading.Barrier(3, timeout=30)
    workers.run([meeting.wait] * 3)
    workers.close()


def test_error_of_a_task_is_raised_after_the_others_end(workers: Workers) -> None:
    done: list[int] = []
    tasks = [partial(done.append, i) for i in range(10)]
    with pytest.raises(ValueError, match="here"):
        workers.run([*tasks[:5], partial(fail, ValueError("here")), *tasks[5:]])
    assert sorted(done) == list(range(10))


def test_workers_are_usable_after_an_error(workers: Workers) -> None:
    with pytest.raises(ValueError, match="here"):
        workers.run([partial(fail, ValueError("here"))] * 8)
    test_workers_run_each_task_once(workers, 8)


def test_workers_serve_several_callers_at_once(workers: Workers) -> None:
    done: list[int] = []
    callers = [
        threading.Thread(
            target=lambda: [
                workers.run([partial(done.append, i) for i in range(3)])
                for _ in range(50)
            ]
        )
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(done) == 600


def test_workers_can_be_used_by_their_own_tasks(workers: Workers) -> None:
    done: list[int] = []
    inner = [partial(done.append, i) for i in range(3)]
    workers.run([partial(workers.run, inner)] * 5)
    assert len(done) == 15


def test_workers_set_the_threads_of_blas_until_closed() -> None:
    def of_blas() -> list[int]:
        return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

    before = of_blas()
    workers = Workers(1)
    assert set(of_blas()) <= {1}
    workers.close()
    assert of_blas() == before


def test_default_number_of_threads_is_that_of_processors() -> None:
    workers = Workers()
    assert 1 <= workers.threads <= (os.cpu_count() or 1)
    workers.close()


def test_blas_has_one_thread_while_tasks_run() -> None:
    workers = Workers(3)
    during: list[set[int]] = []
    workers.run([lambda: during.append(blas_threads())] * 4)
    assert blas_threads() <= {3}
    assert all(threads <= {1} for threads in during)
    workers.close()


def blas_threads() -> set[int]:
    return {
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
