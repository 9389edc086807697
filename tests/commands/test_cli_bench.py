from __future__ import annotations

from typing import Any

import pytest

from ggrpc.engine.client.bench import Samples, time_workloads
from tests.support.processes import free_port
from tests.support.servers import running

QUICK = ("--rounds", "2", "--sizes", "4K")


def test_bench_compares_two_servers(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as one, running() as two:
        code, out, err = piped("bench", str(one), str(two), *QUICK)
    assert (code, err) == (0, "")
    headers, *lines = out.splitlines()
    assert headers.split() == [
        "CASE",
        "SIZE",
        "ENDPOINT",
        "MEDIAN",
        "P99",
        "GB/s",
        "RATIO",
        "FROM",
        "TO",
        "RESULT",
    ]
    assert [str(one) in line for line in lines] == [True, False] * 11
    assert all((line.split()[-2] == "-") == (str(one) in line) for line in lines)
    *_, first, second = lines
    assert first.startswith("all ") and first.endswith("reference")
    assert second.startswith("all ")
    assert second.split()[-1] in ("faster", "similar", "slower")
    median, low, high = map(float, second.split()[-4:-1])
    assert low <= median <= high


def test_bench_json_has_flat_rows_with_units(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        outcome = piped("bench", str(server), *QUICK, "--json")
    row = next(row for row in outcome.rows if row["case"] == "SET_TENSOR")
    assert list(row) == [
        *("case", "size_bytes", "endpoint", "median_ms", "p99_ms", "calls"),
        *("gigabytes_per_second", "ratio", "ratio_low", "ratio_high"),
    ]
    assert row["size_bytes"] == 4096
    assert row["ratio"] is None
    assert 0 < row["median_ms"] <= row["p99_ms"]


@pytest.mark.parametrize(("calls", "lines"), [(1, 0), (2, 23), (3, 23)])
def test_ctrl_c_shows_the_rounds_that_are_done(  # type: ignore[no-untyped-def]
    piped, monkeypatch: pytest.MonkeyPatch, calls: int, lines: int
) -> None:
    """Of two rounds with two servers, some measurements are done."""
    left = iter(range(calls))

    def limited(*arguments: Any) -> Samples:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return time_workloads(*arguments)

    monkeypatch.setattr("ggrpc.engine.client.bench.time_workloads", limited)
    with running() as one, running() as two:
        code, out, err = piped("bench", str(one), str(two), *QUICK)
    assert (code, len(out.splitlines()), err) == (130, lines, "")


def test_bench_of_a_fleet_that_failed_in_part_exits_7(piped) -> None:  # type: ignore[no-untyped-def]
    unreachable = f"127.0.0.1:{free_port()}"
    with running() as server:
        code, out, err = piped("bench", str(server), unreachable, *QUICK)
    assert code == 7
    assert out.count(str(server)) == 11
    assert out.splitlines()[-1].endswith("failed: unreachable")
    assert err.startswith(f"ggrpc: error: cannot connect to {unreachable}: ")


def test_bench_with_a_size_that_is_none_exits_2(piped) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("bench", "localhost", "--sizes", "4K,big")
    assert code == 2
    assert "'big' is not a valid size" in err
