from __future__ import annotations

import pytest

from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import (
    DEFAULTS,
    DIALECTS,
    NEWEST,
    V1_0_0,
    V2_0_0,
    V3_0_0,
    V3_5_0,
    V3_6_0,
    V3_6_1,
    V4_0_0,
    V4_0_2,
    V4_0_3,
    V5_0_0,
    V5_1_0,
    V7_0_0,
    V7_0_1,
    V8_0_0,
    Version,
    dialect_for,
    dialect_named,
    dialects_named,
    narrowed_to,
    superseded_on,
)
from ggrpc.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("7.0.0", V7_0_0),
        ("7", V7_0_0),
        ("3", V3_6_1),
        ("3.6", V3_6_1),
        ("3.6.0", V3_6_0),
        ("4", V4_0_3),
        ("1", V1_0_0),
    ],
)
def test_version_is_found_by_name(text, dialect) -> None:  # type: ignore[no-untyped-def]
    assert dialect_named(text) is dialect


@pytest.mark.parametrize("text", ["", "9", "7.0.0.0", "seven", "-7", "3.6.9"])
def test_version_that_is_not_spoken_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"use one of 1\.0\.0, .*, {NEWEST.version}"):
        dialect_named(text)


def test_defaults_answer_every_size_of_hello() -> None:
    assert {d.hello_size for d in DEFAULTS} == {d.hello_size for d in DIALECTS}


@pytest.mark.parametrize(
    ("dialect", "answered", "silent"),
    [
        (V1_0_0, {"SET_TENSOR", "GRAPH_COMPUTE"}, set()),
        (V3_0_0, {"GRAPH_COMPUTE"}, {"SET_TENSOR"}),
        (V3_6_1, {"FREE_BUFFER", "BUFFER_CLEAR", "INIT_TENSOR"}, {"SET_TENSOR"}),
        (V5_0_0, {"FREE_BUFFER", "MEMSET_TENSOR"}, {"GRAPH_COMPUTE"}),
        (V8_0_0, {"GET_TENSOR_2D", "COMM_INIT"}, {"SET_TENSOR_2D", "COMM_ALLREDUCE"}),
        (V7_0_0, {"GET_TENSOR"}, {"FREE_BUFFER", "MEMSET_TENSOR", "GRAPH_COMPUTE"}),
    ],
    ids=lambda x: str(getattr(x, "version", "")),
)
def test_commands_answer_as_the_version_does(dialect, answered, silent) -> None:  # type: ignore[no-untyped-def]
    assert all(dialect.replies[Command[name]] for name in answered)
    assert not any(dialect.replies[Command[name]] for name in silent)


def test_same_number_is_another_command_in_another_version() -> None:
    assert V7_0_1.command(19) is Command.GET_DEVICE_SUPPORTS_OP
    assert V8_0_0.command(19) is Command.GET_TENSOR_2D
    assert V7_0_0.command(19) is None


def test_one_version_of_each_kind_can_be_named() -> None:
    assert dialects_named("2.0, 5.0") == (V2_0_0, V5_0_0)
    assert dialects_named("7.0.1") == (V7_0_1,)
    with pytest.raises(ConfigError, match="is ambiguous: give at most one version"):
        dialects_named("5.0,7.0")


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        ((2, 0, 0), V2_0_0),
        ((3, 6, 7), V3_6_1),
        ((4, 0, 2), V4_0_2),
        ((5, 1, 0), V5_1_0),
        ((7, 0, 9), V7_0_1),
        ((3, 5, 0), V3_5_0),
        ((8, 0, 2), V8_0_0),
        ((6, 1, 0), None),
        ((99, 0, 0), None),
    ],
)
def test_dialect_of_a_server_goes_by_what_it_announces(version, dialect) -> None:  # type: ignore[no-untyped-def]
    assert dialect_for(Version(*version)) is dialect


def test_versions_are_in_the_order_of_time() -> None:
    assert list(DIALECTS) == sorted(DIALECTS, key=lambda d: d.version)
    assert [d.since for d in DIALECTS] == sorted(d.since for d in DIALECTS)
    assert superseded_on(V4_0_0.version) == V5_0_0.since
    assert superseded_on(V7_0_0.version) == V8_0_0.since
    assert superseded_on(NEWEST.version) is None


@pytest.mark.parametrize(
    ("dialect", "has", "lacks"),
    [
        (V1_0_0, {"GET_TENSOR"}, {"DEVICE_COUNT", "GRAPH_RECOMPUTE"}),
        (V3_0_0, {"DEVICE_COUNT"}, {"GRAPH_RECOMPUTE"}),
        (V3_5_0, {"GRAPH_RECOMPUTE"}, {"MEMSET_TENSOR"}),
        (V5_0_0, {"MEMSET_TENSOR"}, {"GET_DEVICE_SUPPORTS_OP"}),
        (V7_0_1, {"GET_DEVICE_SUPPORTS_OP"}, {"GET_TENSOR_2D"}),
        (V8_0_0, {"GET_TENSOR_2D", "COMM_FREE"}, {"GET_DEVICE_SUPPORTS_OP"}),
    ],
    ids=lambda x: str(getattr(x, "version", "")),
)
def test_commands_came_with_their_versions(dialect, has, lacks) -> None:  # type: ignore[no-untyped-def]
    names = {command.name for command in dialect.commands}
    assert has <= names
    assert not lacks & names


@pytest.mark.parametrize(
    ("dialect", "date"),
    [(V3_6_0, "2025-12-11"), (V3_6_1, "2026-03-15"), (V4_0_0, "2026-03-15")],
    ids=lambda x: str(getattr(x, "version", "")),
)
def test_patch_of_a_server_tells_its_op_table(dialect, date) -> None:  # type: ignore[no-untyped-def]
    assert len(dialect.tables) > 1
    assert [t.date for t in narrowed_to(dialect.version, dialect).tables] == [date]


def test_op_table_of_a_server_that_does_not_tell_can_be_said() -> None:
    assert narrowed_to(V2_0_0.version, V2_0_0).table.date == "2025-10-12"
    said = narrowed_to(V2_0_0.version, V2_0_0, "2025-07-12")
    assert [table.date for table in said.tables] == ["2025-07-12"]
