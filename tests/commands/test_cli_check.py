from __future__ import annotations

import pytest

from ggrpc.op import Op
from tests.support.faulty import WrongDevice
from tests.support.processes import free_port
from tests.support.servers import running


def test_check_of_a_healthy_node_sums_up(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        code, out, err = piped("check", str(server))
    assert (code, err) == (0, "")
    headers, protocol, arithmetic = out.splitlines()
    assert headers.split()[:5] == ["ENDPOINT", "DEVICE", "PART", "CHECK", "RESULT"]
    assert protocol.startswith(f"{server}       0  protocol    all 18  ok ")
    assert arithmetic.endswith("51 ok")


def test_check_names_the_op_that_is_wrong_and_exits_1(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as sound, running(WrongDevice(Op.ARGMAX)) as wrong:
        code, out, _ = piped("check", str(sound), str(wrong), "--no-headers")
    assert code == 1
    lines = out.splitlines()
    assert len(lines) == 5
    assert [str(wrong) in line for line in lines] == [False] * 2 + [True] * 3
    assert " ARGMAX " in lines[-1]
    assert "differs from cpu here" in lines[-1]


def test_check_json_has_a_row_for_each_check(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        outcome = piped("check", str(server), "--json")
    assert list(outcome.rows[0]) == [
        *("endpoint", "device", "part", "check", "result", "error", "limit", "ms"),
        "detail",
    ]
    assert len(outcome.rows) == 69
    skipped = [row for row in outcome.rows if row["result"] == "skipped"]
    assert [row["check"] for row in skipped] == ["GET_DEVICE_SUPPORTS_OP"]


def test_check_all_shows_every_check(piped) -> None:  # type: ignore[no-untyped-def]
    with running() as server:
        _, out, _ = piped("check", str(server), "--all", "--no-headers")
    assert len(out.splitlines()) == 69


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
