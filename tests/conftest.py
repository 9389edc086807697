"""Selects the cases that run: some of each test by default, all with `--all`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

CASES_OF_A_TEST = 12  # that run by default

LeftOut = tuple[int, int]  # the number of cases that were left out, and of all

LEFT_OUT = pytest.StashKey[LeftOut]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-sessions",
        type=int,
        default=5000,
        help="number of sessions that the soak test opens; 40000 take a minute",
    )
    parser.addoption(
        "--all",
        action="store_true",
        help=f"run all cases of each test instead of {CASES_OF_A_TEST}; "
        "GGRPC_TESTS=all does the same",
    )


def runs_all(config: pytest.Config) -> bool:
    """Whether all cases run: tests that are selected by name always run completely."""
    asked = config.getoption("--all") or os.environ.get("GGRPC_TESTS") == "all"
    by_name = config.getoption("-k") or any("::" in name for name in config.args)
    return bool(asked or by_name)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if runs_all(config):
        return
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    kept = {item for cases in tests.values() for item in some_of(cases)}
    left_out = [item for item in items if item not in kept]
    config.stash[LEFT_OUT] = (len(left_out), len(items))
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item in kept]


def some_of(cases: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The first case, the last one, and one from each of equal stretches in between.

    A checksum of the name chooses the one from a stretch. So every run chooses the
    same, and no parameter of a product of parameters always has the same value.
    """
    if len(cases) <= CASES_OF_A_TEST:
        yield from cases
        return
    yield cases[0]
    inner = cases[1:-1]
    stretches = CASES_OF_A_TEST - 2
    for n in range(stretches):
        start, end = (len(inner) * i // stretches for i in (n, n + 1))
        yield min(inner[start:end], key=lambda case: crc32(case.nodeid.encode()))
    yield cases[-1]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts to the main process, if this is a worker of pytest-xdist."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, (0, 0))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the counts of a worker; all workers leave out the same cases."""
    output = getattr(node, "workeroutput", {})  # a worker that crashed has none
    if "left_out" in output:
        node.config.stash[LEFT_OUT] = tuple(output["left_out"])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = Counter(map(need_of, terminalreporter.stats.get("skipped", ())))
    del missing[""]
    for need, count in missing.most_common():
        terminalreporter.write_line(f"{count} skipped: {need}")
    count, total = config.stash.get(LEFT_OUT, (0, 0))
    if count:
        terminalreporter.write_line(
            f"{count} of {total} cases left out; run all of them with: pytest --all"
        )


def need_of(skipped: pytest.TestReport | pytest.CollectReport) -> str:
    """What a skipped test needs; empty if it was skipped for another reason."""
    reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else ""
    _, needs, what = reason.partition("needs ")
    return needs + what
