"""`ggrpc bench`: compares the latency, throughput and graph dispatch of servers."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import geometric_mean
from typing import Annotated, Any

import typer

from ggrpc.commands.endpoints import Endpoints, endpoints_of
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import (
    DeviceNumber,
    Protocol,
    Timeout,
    reason_of,
    show_with_verdicts,
)
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import bar
from ggrpc.commands.tls_options import client_options
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.bench import Bench, BenchSettings, Timing
from ggrpc.units import format_size, parse_size

EXAMPLES = (
    "ggrpc bench localhost",
    "ggrpc bench old:50052 new:50052 --rounds 21 --sizes 1M,256M",
)

Rounds = Annotated[int, typer.Option(metavar="N", min=1, help="Number of rounds.")]
Sizes = Annotated[
    str,
    typer.Option(metavar="SIZE,...", help="Sizes of the transfers."),
]


def _time(milliseconds: float) -> str:
    if milliseconds < 1:
        return f"{milliseconds * 1e3:.1f} us"
    return f"{milliseconds:.2f} ms"


COLUMNS = (
    Column("case", "CASE", wraps=True),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("endpoint", "ENDPOINT"),
    Column("median_ms", "MEDIAN", _time, right=True),
    Column("p99_ms", "P99", _time, right=True, spare=2),
    Column("gigabytes_per_second", "GB/s", "{:.2f}".format, right=True, spare=1),
    Column("ratio", "RATIO", "{:.2f}".format, right=True),
    Column("ratio_low", "FROM", "{:.2f}".format, right=True),
    Column("ratio_high", "TO", "{:.2f}".format, right=True),
    Column("result", "RESULT", wraps=True, is_rare=True),
)


def bench(
    context: typer.Context,
    endpoints: Endpoints = None,
    rounds: Rounds = 7,
    sizes: Sizes = "4K,1M,64M",
    device: DeviceNumber = 0,
    timeout: Timeout = 30,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Compare the speed of servers.

    It times connecting, a small request, transfers, and a graph of small nodes. The
    servers are timed alternately. RATIO is the speed of a server relative to the first
    one: the median over the rounds, and the range FROM .. TO. A ratio is meaningful
    even on a noisy machine. The last lines show the geometric mean over all cases for
    each server. List an endpoint twice to see the effect of noise alone.

    ENDPOINTs have the same form as for 'ggrpc probe'. Each server needs free memory for
    twice the largest size. The timeout applies to connecting, and to a server that
    makes no progress: it must take and send data at a minimum rate, and answer other
    requests within a second on average.
    """
    environment = environment_of(context)
    servers = endpoints_of(endpoints, environment)
    settings = BenchSettings(
        [parse_size(size) for size in sizes.split(",")],
        device,
        client_options(environment, timeout, protocol),
    )
    bench = Bench(servers, settings)
    try:
        with bar(environment, "measuring", rounds * len(servers), steps=True) as done:
            for _ in range(rounds):
                bench.round(done)
    finally:  # Ctrl-C keeps the rounds that are done
        rows, verdicts = list(_rows(bench, servers)), list(_verdicts(bench, servers))
        if rows or len(bench.errors) == len(servers):
            listing = Listing(COLUMNS, as_json, not no_headers)
            show_with_verdicts(environment, listing, rows, verdicts)
    for at, error in bench.errors.items():
        named = error.endpoint is not None
        environment.fail(error, str(error) if named else f"{servers[at]}: {error}")
    return code_of_several(
        [
            code_of(bench.errors[at]) if at in bench.errors else ExitCode.OK
            for at in range(len(servers))
        ]
    )


def _rows(bench: Bench, servers: list[Endpoint]) -> Iterator[Row]:
    """Rows grouped by case, so that comparable rows are adjacent."""
    results = [(server, bench.results(at)) for at, server in enumerate(servers)]
    cases = {result.workload: None for _, some in results for result in some}
    for case in cases:
        for server, some in results:
            yield from (_row(server, r) for r in some if r.workload == case)


def _verdicts(bench: Bench, servers: list[Endpoint]) -> Iterator[Row]:
    """The last line of each server."""
    for at, server in enumerate(servers):
        row = {"case": "all", "endpoint": str(server)}
        ratios = [result.ratio for result in bench.results(at) if result.ratio]
        if at in bench.errors:
            yield {**row, "result": f"failed: {reason_of(bench.errors[at])}"}
        elif not ratios:
            yield {**row, "result": "ok" if at else "reference"}
        else:
            median, low, high = map(geometric_mean, zip(*ratios, strict=True))
            yield {
                **row,
                "ratio": median,
                "ratio_low": low,
                "ratio_high": high,
                "result": _compared(low, high),
            }


def _compared(low: float, high: float) -> str:
    if low > 1:
        return "faster"
    return "slower" if high < 1 else "similar"


def _row(server: Endpoint, result: Timing) -> dict[str, Any]:
    name, size = result.workload
    ratio = result.ratio
    return {
        "case": name,
        "size_bytes": size,
        "endpoint": str(server),
        "median_ms": round(result.median * 1e3, 4),
        "p99_ms": round(result.p99 * 1e3, 4),
        "calls": result.calls,
        "gigabytes_per_second": size and round(size / result.median / 1e9, 3),
        "ratio": ratio and round(ratio.median, 3),
        "ratio_low": ratio and round(ratio.low, 3),
        "ratio_high": ratio and round(ratio.high, 3),
    }
