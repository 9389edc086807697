from __future__ import annotations

from collections.abc import Iterator

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.bench import Bench, BenchSettings, Workload, time_workloads
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.wire.dialects import V2_0_0, V3_6_1
from ggrpc.errors import RefusedError
from tests.support.paths import NEWEST
from tests.support.processes import free_port, native_serving
from tests.support.servers import running

SETTINGS = BenchSettings((4096, 1 << 20), options=ClientOptions(timeout=20))
TRANSFERS = (
    *("SET_TENSOR", "GET_TENSOR", "COPY_TENSOR", "BUFFER_CLEAR"),
    *("SET_TENSOR_2D", "GET_TENSOR_2D"),
)
CASES = [
    *(Workload("connect"), Workload("request")),
    *(Workload(name, size) for size in SETTINGS.sizes for name in TRANSFERS),
    *(Workload("GRAPH_COMPUTE, 200 nodes"), Workload("GRAPH_RECOMPUTE, 200 nodes")),
]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with running() as endpoint:
        yield endpoint


def test_measurement_times_every_workload(server: Endpoint) -> None:
    samples = time_workloads(server, SETTINGS)
    assert list(samples) == CASES
    assert all(0 < seconds < 20 for times in samples.values() for seconds in times)


def test_measurement_omits_commands_that_the_version_lacks() -> None:
    with running(dialects=(V2_0_0,)) as endpoint:
        lacking = {"SET_TENSOR_2D", "GET_TENSOR_2D", "GRAPH_RECOMPUTE, 200 nodes"}
        expected = [case for case in CASES if case.name not in lacking]
        assert list(time_workloads(endpoint, SETTINGS)) == expected


def test_ratios_compare_with_the_first_server(server: Endpoint) -> None:
    bench = Bench([server, server], SETTINGS)
    for _ in range(2):
        bench.round()
    first, second = bench.results(0), bench.results(1)
    assert [result.ratio for result in first] == [None] * len(CASES)
    for result in second:
        assert result.ratio is not None
        assert result.ratio.low <= result.ratio.median <= result.ratio.high
        assert result.median <= result.p99
        assert result.calls >= 2


def test_failed_server_is_not_timed_again(server: Endpoint) -> None:
    unreachable = Endpoint("127.0.0.1", free_port())
    bench = Bench([unreachable, server], SETTINGS)
    bench.round()
    assert "cannot connect" in str(bench.errors[0])
    assert bench.results(0) == []
    assert [result.ratio for result in bench.results(1)] == [None] * len(CASES)


def test_invalid_device_is_refused(server: Endpoint) -> None:
    with pytest.raises(RefusedError, match="has no device 1: 'ggrpc probe'"):
        time_workloads(server, BenchSettings(sizes=(), device=1))


@pytest.mark.parametrize(
    ("peer", "dialect"), [(NEWEST, None), ("0.3.36", None), ("0.3.17", V3_6_1)]
)
def test_native_server_is_timed(peer: str, dialect) -> None:  # type: ignore[no-untyped-def]
    with native_serving(peer) as endpoint:
        settings = BenchSettings((4096,), options=ClientOptions(20, dialect))
        samples = time_workloads(endpoint, settings)
        assert time_workloads(endpoint, settings).keys() == samples.keys()
    assert Workload("GET_TENSOR", 4096) in samples
