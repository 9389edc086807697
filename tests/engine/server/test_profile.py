"""The profile that a server logs when a client disconnects."""

from __future__ import annotations

import logging

import pytest

from ggrpc.engine.client.client import connect
from ggrpc.op import Op
from tests.support.case import Case
from tests.support.oracle import run_case_on
from tests.support.servers import running


def test_profile_of_a_session_is_logged_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ggrpc")
    case = Case()
    x = case.leaf((64, 3))
    case.node(Op.SQR, [x], x.ne)
    with running(profile=True) as endpoint:
        with connect(endpoint):
            pass
        with connect(endpoint) as client:
            run_case_on(client, case)
    messages = [record.getMessage() for record in caplog.records]
    (at,) = [i for i, message in enumerate(messages) if ": 1 graphs in " in message]
    assert messages[at + 1].endswith(" 1 x SQR")
