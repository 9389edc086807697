"""Which tests run: some cases of each test every day, all of them with `--all`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

CASES_OF_A_TEST = 12  # in the everyday run

LeftOut = tuple[int, int]  # how many cases, of how many

LEFT_OUT = pytest.StashKey[LeftOut]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-sessions",
        type=int,
        default=5000,
        help="how many sessions the soak test opens; 40000 take a minute",
    )
    parser.addoption(
        "--all",
        action="store_true",
        help="run each test over all its cases, as GGRPC_TESTS=all does, "
        f"instead of {CASES_OF_A_TEST} of them",
    )


def runs_all(config: pytest.Config) -> bool:
    """Whether nothing is left out: what is chosen by name always runs."""
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
    """The first, the last, and one out of each stretch between: always the same.

    Which one of its stretch is as good as random, so that no parameter of a product
    always has the same value.
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
    """Tell the process that started this one, where the tests run in several."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, (0, 0))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each worker leaves out the same."""
    output = getattr(node, "workeroutput", {})  # one that crashed has none
    if "left_out" in output:
        node.config.stash[LEFT_OUT] = tuple(output["left_out"])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = Counter(map(what_it_needs, terminalreporter.stats.get("skipped", ())))
    del missing[""]
    for need, count in missing.most_common():
        terminalreporter.write_line(f"{count} skipped: {need}")
    count, total = config.stash.get(LEFT_OUT, (0, 0))
    if count:
        terminalreporter.write_line(
            f"{count} of {total} cases left out; run all of them with: pytest --all"
        )


def what_it_needs(skipped: pytest.TestReport | pytest.CollectReport) -> str:
    """How to get what a skipped test needs; empty where it isn't for want of it."""
    reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else ""
    _, needs, what = reason.partition("needs ")
    return needs + what
