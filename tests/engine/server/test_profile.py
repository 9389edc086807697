"""What a server with a profile says when a client leaves."""

from __future__ import annotations

import logging

import pytest

from ggrpc.engine.client.client import connect
from ggrpc.op import Op
from tests.support.case import Case
from tests.support.oracle import run_case_on
from tests.support.servers import running


def test_session_ends_with_where_its_time_went(
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
