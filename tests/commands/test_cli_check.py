from __future__ import annotations

import re

import pytest

from ggrpc.op import Op
from tests.support.devices import WrongDevice
from tests.support.processes import free_port, serving
from tests.support.servers import running
from tests.support.waiting import wait_until


def test_check_of_a_healthy_node_sums_up(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        code, out, err = piped("check", str(server))
    assert (code, err) == (0, "")
    headers, protocol, arithmetic, verdict = out.splitlines()
    assert headers.split()[:5] == ["ENDPOINT", "DEVICE", "PART", "CHECK", "RESULT"]
    assert protocol.startswith(f"{server}       0  protocol    all 16  ok ")
    assert arithmetic.endswith("51 ok")
    assert verdict.split() == [
        *(str(server), "-", "all", "all", "67", "ok", "-", "-", "66", "ok,"),
        *("1", "skipped"),
    ]


def test_last_lines_give_a_verdict_for_each_server(piped) -> None:  # type: ignore[no-untyped-def]
    nobody = f"127.0.0.1:{free_port()}"
    with (
        running(host="127.0.0.1") as good,
        running(WrongDevice(Op.ARGMAX), host="127.0.0.1") as wrong,
    ):
        code, out, _ = piped("check", str(good), str(wrong), nobody)
    assert code == 1
    header, *lines = out.splitlines()
    start = header.index("DETAIL")
    assert {line[start - 2 : start] for line in lines} == {"  "}  # all are aligned
    column = slice(header.index("RESULT"), header.index("ERROR"))
    assert [(line.split()[0], line[column].split()[0]) for line in lines[-3:]] == [
        (str(good), "ok"),
        (str(wrong), "failed"),
        (nobody, "failed"),
    ]
    assert lines[-1].endswith("unreachable")


def test_check_names_the_op_that_is_wrong_and_exits_1(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as sound, running(WrongDevice(Op.ARGMAX)) as wrong:
        code, out, _ = piped("check", str(sound), str(wrong), "--no-headers")
    assert code == 1
    lines = out.splitlines()
    assert len(lines) == 5
    assert [str(wrong) in line for line in lines] == [False] * 2 + [True] * 3
    assert " ARGMAX " in lines[-1]
    assert "differ from those of the local cpu" in lines[-1]


def test_check_json_has_a_row_for_each_check(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        outcome = piped("check", str(server), "--json")
    assert list(outcome.rows[0]) == [
        *("endpoint", "device", "part", "check", "result", "error", "limit", "ms"),
        "detail",
    ]
    assert len(outcome.rows) == 67
    skipped = [row for row in outcome.rows if row["result"] == "skipped"]
    assert [row["check"] for row in skipped] == ["GET_DEVICE_SUPPORTS_OP"]


def test_check_all_shows_every_check(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        _, out, _ = piped("check", str(server), "--all", "--no-headers")
    assert len(out.splitlines()) == 67


@pytest.mark.parametrize("full", [False, True])
def test_server_logs_a_check_by_its_name_and_only_full_ones_ask_for_too_much(
    piped, full: bool
) -> None:  # type: ignore[no-untyped-def]
    with serving() as server:
        flags = ["--full"] if full else []
        assert piped("check", str(server.endpoint), *flags).code == 0
        wait_until(lambda: "session ended" in server.log)
        log = server.log
    assert ": 'ggrpc check' tests this server" in log
    refused = [line for line in log.splitlines() if "ALLOC_BUFFER: " in line]
    assert len(refused) == full
    assert not full or re.search(r"INFO 127.0.0.1:\d+ ALLOC_BUFFER: ", refused[0])
    warned = [
        line for line in log.partition("stopped")[0].splitlines() if "WARN" in line
    ]
    assert ["COMM_INIT" in line for line in warned] == [True] * full


def test_check_of_nobody_exits_3(piped) -> None:  # type: ignore[no-untyped-def]
    nobody = f"127.0.0.1:{free_port()}"
    code, out, err = piped("check", nobody)
    assert (code, out) == (3, "")
    assert f"cannot connect to {nobody}" in err
    with running() as server:
        code, out, _ = piped("check", str(server), nobody)
    assert code == 7
    assert str(server) in out


def test_check_goes_on_after_a_node_that_died(piped, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from ggrpc.engine.checking import checker
    from ggrpc.errors import ConnectError

    def dies(self, number, case):  # type: ignore[no-untyped-def]
        raise ConnectError("cannot connect to node again")

    monkeypatch.setattr(checker.Checker, "_case", dies)
    with running() as server:
        code, out, err = piped("check", str(server))
    assert code == 1
    assert "protocol" in out
    assert f"{server}: cannot connect to node again" in err


@pytest.mark.parametrize("option", ["--op-table", "--protocol"])
def test_check_of_an_unknown_version_exits_2(piped, option: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("check", "localhost", option, "x")
    assert code == 2
    assert "'x'" in err
