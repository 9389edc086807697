from __future__ import annotations

import resource

import pytest

from ggrpc.engine.server import fd_limit
from ggrpc.engine.server.fd_limit import OTHER_FILES, clients_that_fit

FOREVER = resource.RLIM_INFINITY


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Replaces the process's limits; returns the list of later changes."""

    def put(soft: int, hard: int, fails: bool = False) -> list[tuple[int, int]]:
        put_to: list[tuple[int, int]] = []

        def set_to(what: int, limits: tuple[int, int]) -> None:
            if fails:
                raise ValueError
            put_to.append(limits)

        monkeypatch.setattr(fd_limit.resource, "getrlimit", lambda what: (soft, hard))
        monkeypatch.setattr(fd_limit.resource, "setrlimit", set_to)
        return put_to

    return put


def test_sufficient_limit_is_not_changed(limit) -> None:  # type: ignore[no-untyped-def]
    changes = limit(1000 + OTHER_FILES, 1 << 20)
    assert clients_that_fit(1000) == 1000
    assert limit(FOREVER, FOREVER) == changes == []
    assert clients_that_fit(1000) == 1000


@pytest.mark.parametrize("hard", [1 << 20, FOREVER])
def test_limit_is_raised_as_far_as_needed(limit, hard: int) -> None:  # type: ignore[no-untyped-def]
    changes = limit(1024, hard)
    assert clients_that_fit(4096) == 4096
    assert changes == [(4096 + OTHER_FILES, hard)]


@pytest.mark.parametrize("fails", [False, True])
def test_clients_are_limited_by_open_files(limit, caplog, fails: bool) -> None:  # type: ignore[no-untyped-def]
    limit(1024, 1024, fails)
    assert clients_that_fit(4096) == 1024 - OTHER_FILES
    assert "896 clients at most: the limit on open files is 1024" in caplog.text
