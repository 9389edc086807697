from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from threading import Event

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.checking.checker import (
    ARITHMETIC,
    PROTOCOL,
    Checker,
    CheckSettings,
    Finding,
    Verdict,
)
from ggrpc.engine.client.registry import connect
from ggrpc.engine.server import session as session_module
from ggrpc.engine.server.session import DataLink, Session
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.dialects import V2_0_0, V7_0_0
from ggrpc.engine.wire.messages import SetTensor
from ggrpc.errors import ConnectError, RefusedError
from ggrpc.op import Op
from tests.support.devices import FailingDevice, WrongDevice
from tests.support.paths import NEWEST
from tests.support.processes import free_port, native_serving
from tests.support.servers import running

# Releases of llama-cpp-python, and the op table to use where several are possible.
NATIVE = {
    "0.3.16": "2025-08-20",
    "0.3.17": "",
    "0.3.24": "",
    "0.3.35": "",
    "0.3.36": "",
    NEWEST: "",
}


@pytest.fixture(scope="module")
def reference() -> Iterator[CpuDevice]:
    with CpuDevice(threads=2) as device:
        yield device


def findings(
    endpoint: Endpoint, reference: CpuDevice, full: bool = False, op_table: str = ""
) -> list[Finding]:
    opener = partial(connect, timeout=60, op_table=op_table or None)
    with Checker(endpoint, CheckSettings(opener, reference, full)) as checker:
        found = list(checker.run())
        assert len(found) == checker.total
    return found


def failed(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.result is Verdict.FAILED]


@pytest.mark.parametrize("release", NATIVE)
def test_native_server_is_healthy_in_full(release: str, reference: CpuDevice) -> None:
    with native_serving(release, "--threads", "2") as endpoint:
        found = findings(endpoint, reference, full=True, op_table=NATIVE[release])
        assert not failed(found)
        assert sum(f.result is Verdict.OK for f in found) > 150
        assert not failed(findings(endpoint, reference))  # and the server still runs


def test_own_server_is_healthy_and_every_op_is_checked(reference: CpuDevice) -> None:
    with running() as endpoint:
        found = findings(endpoint, reference, full=True)
    assert [f.name for f in found if f.result is not Verdict.OK] == [
        "GET_DEVICE_SUPPORTS_OP"  # of a version that was only proposed
    ]
    assert {op.name for op in Op} - {f.name.split("-")[0] for f in found} == {
        *("NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"),  # compute nothing
        *(
            "CUSTOM",
            "MAP_CUSTOM1",
            "MAP_CUSTOM2",
            "MAP_CUSTOM3",
        ),  # have no fixed meaning
        *("FLASH_ATTN_BACK", "ADD_REL_POS"),
    }


def test_op_with_a_wrong_result_is_named(reference: CpuDevice) -> None:
    with running(WrongDevice(Op.RMS_NORM)) as endpoint:
        wrong = failed(findings(endpoint, reference))
    assert [finding.name for finding in wrong] == ["RMS_NORM"]
    assert all(
        "differ from those of the local cpu" in finding.detail for finding in wrong
    )
    assert wrong[0].error is not None and wrong[0].limit is not None
    assert wrong[0].error > wrong[0].limit


def test_op_that_ends_the_session_is_named_and_the_rest_is_checked(
    reference: CpuDevice,
) -> None:
    with running(FailingDevice(Op.SOFT_MAX)) as endpoint:
        found = findings(endpoint, reference)
    assert [finding.name for finding in failed(found)] == ["SOFT_MAX", "LAYER"]
    assert "sent after GRAPH_COMPUTE" in failed(found)[0].detail
    assert found[-1].name == "LAYER"


def test_arithmetic_without_transfers_follows_from_them(
    reference: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(session: Session, request: object, link: object) -> None:
        raise RefusedError("nothing is written here")

    monkeypatch.setitem(session_module._HANDLERS, SetTensor, refuse)
    with running(CpuDevice(threads=1, weight_cache=0)) as endpoint:
        found = findings(endpoint, reference)
    assert "SET_TENSOR, GET_TENSOR" in {finding.name for finding in failed(found)}
    assert {finding.part for finding in failed(found)} == {PROTOCOL}
    followers = [f for f in found if f.part == ARITHMETIC]
    assert {f.result for f in followers} == {Verdict.SKIPPED}
    for follower in followers:
        assert "follows from SET_TENSOR, GET_TENSOR, which failed" in follower.detail


def test_only_the_second_device_is_wrong(reference: CpuDevice) -> None:
    sound = CpuDevice(threads=1, weight_cache=0)
    with running(sound, WrongDevice(Op.ADD)) as endpoint:
        wrong = failed(findings(endpoint, reference))
    assert {finding.device for finding in wrong} == {1}
    assert {"GRAPH_COMPUTE", "ADD"} <= {finding.name for finding in wrong}


def test_reported_properties_are_checked(reference: CpuDevice) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    device.alignment = 48
    device.max_size = 0
    with running(device, dialects=(V7_0_0,)) as endpoint:
        wrong = {f.name: f.detail for f in failed(findings(endpoint, reference))}
    assert wrong["GET_ALIGNMENT"] == "48 is not a power of two"
    assert wrong["GET_MAX_SIZE"] == "the largest buffer has 0 bytes"


def test_ops_with_an_ambiguous_number_are_skipped(reference: CpuDevice) -> None:
    with running(dialects=(V2_0_0,)) as endpoint:
        found = {f.name: f for f in findings(endpoint, reference)}
        known = findings(endpoint, reference, op_table="2025-10-12")
    assert found["ADD"].result is Verdict.OK
    assert found["MUL"].result is Verdict.SKIPPED
    assert "choose one with --op-table" in found["MUL"].detail
    assert "added on 2025-12-11" in found["TOP_K"].detail
    skipped = [f.name for f in known if f.result is Verdict.SKIPPED]
    assert skipped == [
        *(
            "SET_TENSOR_2D, GET_TENSOR_2D",
            "MEMSET_TENSOR",
            "GRAPH_RECOMPUTE, two graphs",
        ),
        *("GET_DEVICE_SUPPORTS_OP", "TOP_K"),
    ]


def test_unreachable_server_is_an_error(reference: CpuDevice) -> None:
    with pytest.raises(ConnectError):
        findings(Endpoint("127.0.0.1", free_port()), reference)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (m.GetTensor, "GET_TENSOR"),
        (m.AllocBuffer, "ALLOC_BUFFER"),
        (m.SetTensorHash, "SET_TENSOR_HASH"),
    ],
)
def test_command_without_an_answer_costs_one_timeout(
    kind: type[m.Request],
    named: str,
    reference: CpuDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, handle = Event(), Session.handle

    def hang(session: Session, request: m.Request, link: DataLink) -> m.Reply | None:
        if isinstance(request, kind):
            release.wait()
        return handle(session, request, link)

    monkeypatch.setattr(Session, "handle", hang)
    opener = partial(connect, timeout=2)
    with running() as endpoint:
        start = time.monotonic()
        with Checker(endpoint, CheckSettings(opener, reference)) as checker:
            found = list(checker.run())
        assert time.monotonic() - start < 8
        release.set()
    (missed,) = failed(found)
    assert f"did not answer {named}" in missed.detail
    assert "within 2 s" in missed.detail
    skipped = [f for f in found if f.detail.startswith(f"{named} is not sent again")]
    assert all(finding.result is Verdict.SKIPPED for finding in skipped)
    assert bool(skipped) == (kind is not m.SetTensorHash)
    assert len(found) == checker.total


def test_graphs_that_hang_are_tried_three_times(
    reference: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, handle = Event(), Session.handle

    def hang(session: Session, request: m.Request, link: DataLink) -> m.Reply | None:
        if isinstance(request, m.GraphCompute):
            release.wait()
        return handle(session, request, link)

    monkeypatch.setattr(Session, "handle", hang)
    with running() as endpoint:
        opener = partial(connect, timeout=1)
        with Checker(endpoint, CheckSettings(opener, reference)) as checker:
            found = list(checker.run())
        release.set()
    assert [f.detail.count("(sent after GRAPH_COMPUTE)") for f in failed(found)] == [
        *(1, 1, 1)
    ]
    assert found[-1].detail.startswith("GRAPH_COMPUTE is not sent again")
