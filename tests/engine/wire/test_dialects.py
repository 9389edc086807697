from __future__ import annotations

import pytest

from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import (
    DEFAULTS,
    DIALECTS,
    V3_6_1,
    V7_0_0,
    dialect_named,
)
from ggrpc.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "dialect"),
    [("7.0.0", V7_0_0), ("7", V7_0_0), ("3.6", V3_6_1), ("3.6.1", V3_6_1)],
)
def test_version_is_found_by_name(text, dialect) -> None:  # type: ignore[no-untyped-def]
    assert dialect_named(text) is dialect


@pytest.mark.parametrize("text", ["", "8", "7.0.0.0", "seven", "-7", "3.6.9"])
def test_version_that_is_not_spoken_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"use one of 3\.6\.1, 7\.0\.0"):
        dialect_named(text)


def test_defaults_answer_every_size_of_hello() -> None:
    assert {d.hello_size for d in DEFAULTS} == {d.hello_size for d in DIALECTS}


@pytest.mark.parametrize(
    ("dialect", "answered", "silent"),
    [
        (V3_6_1, {"FREE_BUFFER", "BUFFER_CLEAR", "INIT_TENSOR"}, {"SET_TENSOR"}),
        (V7_0_0, {"GET_TENSOR"}, {"FREE_BUFFER", "MEMSET_TENSOR", "GRAPH_COMPUTE"}),
    ],
    ids=["3.6.1", "7.0.0"],
)
def test_commands_answer_as_the_version_does(dialect, answered, silent) -> None:  # type: ignore[no-untyped-def]
    assert all(dialect.replies[Command[name]] for name in answered)
    assert not any(dialect.replies[Command[name]] for name in silent)
