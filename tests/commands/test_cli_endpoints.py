from __future__ import annotations

import io
from pathlib import Path

import pytest

from ggrpc.commands.endpoints import endpoints_of, one_endpoint
from ggrpc.commands.environment import Environment
from ggrpc.errors import ConfigError


def read(*typed: str, stdin: str = "") -> list[str]:
    environment = Environment(io.StringIO(), io.StringIO(), stdin=io.StringIO(stdin))
    return [str(endpoint) for endpoint in endpoints_of(typed, environment)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a,b:7", ["a:50052", "b:7"]),
        ("node[08-11]:1", ["node08:1", "node09:1", "node10:1", "node11:1"]),
        ("n[1,3-4]x,m", ["n1x:50052", "n3x:50052", "n4x:50052", "m:50052"]),
        ("r[1-2]n[1-2]", [f"r{r}n{n}:50052" for r in (1, 2) for n in (1, 2)]),
        ("10.0.0.[254-255]", ["10.0.0.254:50052", "10.0.0.255:50052"]),
        ("h:[50052-50053]", ["h:50052", "h:50053"]),
        ("[::1]:7,[fe80::2]", ["[::1]:7", "[fe80::2]:50052"]),
    ],
)
def test_lists_and_ranges_are_expanded(typed: str, meant: list[str]) -> None:
    assert read(typed) == meant


def test_files_and_stdin_hold_endpoints(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    path.write_text("# the old ones\na b,c  # behind the door\n\nn[1-2]\n")
    assert read(f"@{path}", "-", stdin="z:1\n") == [
        *("a:50052", "b:50052", "c:50052", "n1:50052", "n2:50052", "z:1")
    ]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("node[9-1]", "runs backwards"),
        ("node[1-999999999999]", "more than 100000 endpoints"),
        ("a,,b", "'' is not a valid endpoint"),
        ("node[1-x]", "is not a valid endpoint"),
        ("-", "no endpoint in -"),
    ],
)
def test_what_is_no_endpoint_is_refused(typed: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason.replace("[", r"\[")):
        read(typed)


def test_file_of_endpoints_that_cannot_be_read_is_an_error(
    piped, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, reason in (
        ("/no/such/file", "No such file or directory"),
        (str(tmp_path / "binary"), "it is not a text file"),
    ):
        line = f"ggrpc: error: cannot read endpoints from {path}: {reason}\n"
        assert piped("probe", f"@{path}") == (9, "", line)


@pytest.mark.parametrize("typed", ["a,b", "node[1-2]"])
def test_one_endpoint_refuses_several(typed: str) -> None:
    assert str(one_endpoint("[::1]:7")) == "[::1]:7"
    with pytest.raises(ConfigError, match="give exactly one"):
        one_endpoint(typed)


def test_the_environment_names_the_fleet(  # type: ignore[no-untyped-def]
    piped, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGRPC_ENDPOINTS", f"{server} {server}")
    assert [row["endpoint"] for row in piped("mem", "--json").rows] == [server] * 4
