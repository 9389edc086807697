from __future__ import annotations

from collections.abc import Iterator
from functools import partial

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
from ggrpc.engine.server.session import Session
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import V2_0_0, V7_0_0, V7_0_1
from ggrpc.engine.wire.messages import SetTensor
from ggrpc.errors import ConnectError, RefusedError, TransportTimeout
from ggrpc.op import Op
from tests.support.faulty import FailingDevice, WrongDevice
from tests.support.lying_server import SLOW, lying
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
    assert all("differs from cpu here" in finding.detail for finding in wrong)
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
        *("SET_TENSOR_2D, GET_TENSOR_2D", "MEMSET_TENSOR", "GRAPH_RECOMPUTE of two"),
        *("GET_DEVICE_SUPPORTS_OP", "TOP_K"),
    ]


def test_unreachable_server_is_an_error(reference: CpuDevice) -> None:
    with pytest.raises(ConnectError):
        findings(Endpoint("127.0.0.1", free_port()), reference)


def test_server_that_does_not_answer_is_not_asked_again(reference: CpuDevice) -> None:
    with running(dialects=(V7_0_1,), host="127.0.0.1") as honest:
        never = SLOW["never"]
        with lying(honest, V7_0_1, Command.COPY_TENSOR, never) as server:
            settings = CheckSettings(lambda to: connect(to, timeout=1), reference)
            found: list[Finding] = []
            with (
                Checker(server.endpoint, settings) as checker,
                pytest.raises(TransportTimeout, match="longer than 1 s"),
            ):
                found.extend(checker.run())
            assert server.lies == 1
    assert [finding.name for finding in failed(found)] == ["COPY_TENSOR"]
    assert found[-1].name == "COPY_TENSOR"
