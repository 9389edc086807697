from __future__ import annotations

import io
import json
import logging
import re
import sys

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.logs import LogFormat, LogLevel, logging_to
from tests.support.hostile_files import NAMES

log = logging.getLogger("ggrpc.engine.server.server")


def logged(
    *messages: tuple[int, str],
    level: LogLevel | None = None,
    style: LogFormat = LogFormat.text,
    quiet: int = 0,
    debug: bool = False,
    **extra: object,
) -> str:
    """The text on stderr after these messages."""
    environment = Environment(io.StringIO(), io.StringIO(), quiet=quiet, debug=debug)
    with logging_to(environment, level, style):
        for number, message in messages:
            log.log(number, message, extra=extra, exc_info=sys.exc_info()[0])
    assert environment.stdout.getvalue() == ""  # type: ignore[attr-defined]
    return environment.stderr.getvalue()  # type: ignore[attr-defined,no-any-return]


ALL = [
    (logging.DEBUG, "one"),
    (logging.INFO, "two"),
    (logging.WARNING, "three"),
    (logging.ERROR, "four"),
]


def test_text_has_time_level_and_message() -> None:
    line = logged((logging.INFO, "it runs"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO it runs\n", line)


def test_json_has_utc_time_level_message_and_where() -> None:
    line = logged(
        (logging.WARNING, "it\nbroke"),
        style=LogFormat.json,
        peer="127.0.0.1:9",
        command="GET_TENSOR",
    )
    row = json.loads(line)
    assert line.count("\n") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("time"))
    assert row == {
        "level": "warning",
        "message": "it\nbroke",
        "peer": "127.0.0.1:9",
        "command": "GET_TENSOR",
    }


def test_json_leaves_out_what_a_record_has_not() -> None:
    line = logged((logging.INFO, "x"), style=LogFormat.json, command=None)
    assert list(json.loads(line)) == ["time", "level", "message"]


@pytest.mark.parametrize(
    ("level", "quiet", "count"),
    [
        (None, 0, 3),
        (None, 1, 2),
        (None, 2, 1),
        (None, 9, 1),
        (LogLevel.debug, 0, 4),
        (LogLevel.info, 2, 3),
        (LogLevel.warning, 0, 2),
        (LogLevel.error, 0, 1),
    ],
)
def test_level_and_quiet_decide_what_is_worth_a_line(
    level: LogLevel | None, quiet: int, count: int
) -> None:
    assert logged(*ALL, level=level, quiet=quiet).count("\n") == count


def test_client_cannot_forge_a_line() -> None:
    text = logged((logging.WARNING, "tensor 'x\n2026-01-01 \x1b[31mINFO \u2028 fake'"))
    assert text.count("\n") == 1
    assert r"'x\n2026-01-01 \x1b[31mINFO \u2028 fake'" in text


@pytest.mark.parametrize("style", LogFormat)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_are_visible(style: LogFormat, name: str) -> None:
    try:
        raise ValueError(name)
    except ValueError:
        text = logged((logging.ERROR, name), style=style, debug=True, peer=name)
    assert [line for line in text.split("\n") if not line.isprintable()] == []


@pytest.mark.parametrize("style", LogFormat)
def test_bug_is_one_line_without_debug(style: LogFormat) -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        text = logged((logging.ERROR, "a bug"), style=style)
    assert "a bug (ZeroDivisionError: by zero); --debug shows the traceback" in text
    assert text.count("\n") == 1


def test_bug_shows_its_traceback_with_debug() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        text = logged((logging.ERROR, "a bug"), debug=True)
        row = logged((logging.ERROR, "a bug"), debug=True, style=LogFormat.json)
    assert "ERROR a bug (ZeroDivisionError: by zero)\nTraceback" in text
    assert json.loads(row)["traceback"].startswith("Traceback")


def test_nothing_is_left_behind() -> None:
    top = logging.getLogger("ggrpc")
    before = top.handlers[:], top.level
    logged(*ALL, level=LogLevel.debug)
    assert (top.handlers, top.level) == before
