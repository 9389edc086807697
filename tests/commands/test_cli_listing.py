from __future__ import annotations

import io
import json
import re

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.listing import Column, Listing
from ggrpc.units import format_size
from tests.commands.conftest import Terminal

COLUMNS = (
    Column("name", "NAME"),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("state", "STATE", wraps=True, styles={"well": "green"}),
)
ROWS = [
    {"name": "a[b]long.example", "size_bytes": 1536, "state": "well"},
    {"name": "c", "size_bytes": None, "state": "not so well: it has a headache"},
]


def shown(
    stdout: io.StringIO,
    rows: list[dict[str, object]],
    json: bool = False,
    headers: bool = True,
    width: int = 80,
) -> str:
    environment = Environment(stdout, io.StringIO(), width)
    Listing(COLUMNS, json, headers).show(environment, rows)
    return stdout.getvalue()


def test_pipe_gets_aligned_columns_without_trailing_blanks() -> None:
    assert shown(io.StringIO(), ROWS) == (
        "NAME                 SIZE  STATE\n"
        "a[b]long.example  1.5 KiB  well\n"
        "c                       -  not so well: it has a headache\n"
    )


def test_pipe_is_as_wide_as_the_data_whatever_the_terminal() -> None:
    long = [{"name": "n" * 300, "size_bytes": 1, "state": "s" * 300}]
    assert max(map(len, shown(io.StringIO(), long, width=40).splitlines())) > 600


def test_headers_can_be_left_out() -> None:
    assert shown(io.StringIO(), ROWS[:1], headers=False) == (
        "a[b]long.example  1.5 KiB  well\n"
    )
    assert "NAME" not in shown(Terminal(), ROWS[:1], headers=False)


def test_json_is_one_object_a_line_with_null_for_none() -> None:
    lines = shown(Terminal(), ROWS, json=True).splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert list(json.loads(lines[0])) == ["name", "size_bytes", "state"]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_rows_show_nothing(stream: type[io.StringIO], as_json: bool) -> None:
    assert shown(stream(), [], json=as_json) == ""


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def plain(text: str) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def test_terminal_shows_state_in_colour_and_names_as_they_are() -> None:
    text = shown(Terminal(), ROWS)
    assert "\x1b[32mwell\x1b[0m" in text
    assert "a[b]long.example" in text


def test_terminal_that_is_wide_shows_the_same_as_a_pipe() -> None:
    assert plain(shown(Terminal(), ROWS)) == shown(io.StringIO(), ROWS)


def test_terminal_without_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(Terminal(), ROWS)


def test_terminal_wraps_only_what_may_wrap() -> None:
    assert plain(shown(Terminal(), ROWS, width=45)) == (
        "NAME                 SIZE  STATE\n"
        "a[b]long.example  1.5 KiB  well\n"
        "c                       -  not so well: it\n"
        "                           has a headache\n"
    )


def test_terminal_too_narrow_for_a_table_gets_a_line_a_value() -> None:
    assert shown(Terminal(), ROWS, width=30) == (
        "NAME   a[b]long.example\n"
        "SIZE   1.5 KiB\n"
        "STATE  well\n"
        "\n"
        "NAME   c\n"
        "SIZE   -\n"
        "STATE  not so well: it has a headache\n"
    )


NUMBERS = [
    (float("inf"), "null"),
    (float("-inf"), "null"),
    (float("nan"), "null"),
    (2 / 3, "0.666667"),
    (123456789, "123456789"),
    (123456789.0, "123457000.0"),
    (1e-30 / 3, "3.33333e-31"),
    (True, "true"),
    ([1, float("nan"), {"x": float("inf")}], '[1, null, {"x": null}]'),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_json_has_no_infinity_and_no_noise(value: object, text: str) -> None:
    assert shown(io.StringIO(), [{"x": value}], json=True) == f'{{"x": {text}}}\n'


def test_totals_are_the_last_rows_of_text_with_headers() -> None:
    total = {"name": "total", "size_bytes": 3 << 30}

    def with_total(json: bool = False, headers: bool = True) -> list[str]:
        stdout = io.StringIO()
        listing = Listing(COLUMNS, json, headers)
        listing.show(Environment(stdout, io.StringIO()), ROWS, [total])
        return stdout.getvalue().splitlines()

    assert with_total()[-1] == "total             3.0 GiB  -"
    assert len(with_total(json=True)) == len(with_total(headers=False)) == len(ROWS)


def test_narrow_terminal_goes_without_spare_columns() -> None:
    columns = [
        Column("a", "A" * 10),
        Column("b", "B" * 10, spare=1),
        Column("c", "C" * 10, spare=2),
    ]
    row = {"a": 1, "b": 2, "c": 3}

    def titles(width: int) -> tuple[list[str], str]:
        stdout, stderr = Terminal(), io.StringIO()
        listing = Listing(columns, json=False, headers=True)
        listing.show(Environment(stdout, stderr, width), [row])
        words = plain(stdout.getvalue()).split()
        return [w[0] for w in words if w[0] in "ABC"], stderr.getvalue()

    assert titles(34) == (["A", "B", "C"], "")
    left, said = titles(33)
    assert left == ["A", "B"] and f"{'C' * 10} left out" in said
    assert titles(21)[0] == ["A"]
    assert titles(9) == (["A", "B", "C"], "")  # a line a value
