from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.inspection.test_graphs import trace
from tests.support.caches import random_bytes, write_gguf
from tests.support.paths import shared
from tests.support.recordings import recorded_here


@pytest.fixture
def session() -> str:
    return str(trace("7.0.0"))


def test_graphs_of_a_session(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("inspect", session, "--json")
    assert outcome.code == 0
    assert sum(row["runs"] for row in outcome.rows) == 7
    for row in outcome.rows:
        assert row["flops_per_byte"] == pytest.approx(row["flops"] / row["bytes"], 1e-5)


def test_totals_by_op_add_up(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    *ops, total = piped("inspect", session, "--by", "op", "--json").rows
    assert total["op"] == "all"
    for field in ("nodes", "flops", "bytes"):
        assert sum(row[field] for row in ops) == total[field]
    graphs = piped("inspect", session, "--json").rows
    assert sum(row["flops"] for row in graphs) == total["flops"]


def test_nodes_of_one_graph(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    rows = piped("inspect", session, "--by", "node", "--graph", "1", "--json").rows
    assert {row["graph"] for row in rows} == {1}
    assert [row["node"] for row in rows] == list(range(1, len(rows) + 1))


def test_node_with_what_it_reads_and_who_reads_it(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    arguments = ("inspect", session, "--node", "Qcur-0", "--graph", "1", "--json")
    roles = [row["role"] for row in piped(*arguments).rows]
    assert roles.count("node") >= 1
    assert {"source", "reader"} <= set(roles)
    outcome = piped("inspect", session, "--node", "none")
    assert outcome.code == 2
    assert "no node is named 'none'" in outcome.err


def test_same_recording_does_not_differ(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    assert piped("inspect", session, "--diff", session).code == 0
    other = str(trace("3.6.1"))
    outcome = piped("inspect", session, "--diff", other, "--json")
    assert outcome.code == (1 if outcome.rows else 0)


def test_drawing_goes_to_stdout(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("inspect", session, "--format", "mermaid")
    assert (outcome.code, outcome.out[:9]) == (0, "flowchart")


def test_folder_of_sessions_is_one_recording(piped, session: str) -> None:  # type: ignore[no-untyped-def]
    folder = str(Path(session).parent)
    graphs = [row["nodes"] for row in piped("inspect", session, "--json").rows]
    assert [r["nodes"] for r in piped("inspect", folder, "--json").rows] == graphs
    assert piped("inspect", "/", "--json").code == 9


def test_model_shows_tensors_and_types(piped) -> None:  # type: ignore[no-untyped-def]
    model = str(shared("peer/models/micro_f16.gguf"))
    tensors = piped("inspect", model, "--json").rows
    types = piped("inspect", model, "--by", "type", "--json").rows
    assert sum(row["tensors"] for row in types) == len(tensors)
    size = sum(row["size_bytes"] for row in tensors)
    assert sum(row["size_bytes"] for row in types) == size
    assert all("size" not in row and "bytes" not in row for row in tensors)
    assert all(isinstance(row["ne"], list) for row in tensors)
    assert piped("inspect", model, "--by", "op").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--by", "tensor"), "is not a GGUF"),
        (("--graph", "99"), "no graph 99"),
        (("--format", "dot", "--json"), "combine it only with --graph"),
        (("--format", "dot", "--by", "op"), "combine it only with --graph"),
        (("--format", "dot", "--no-headers"), "combine it only with --graph"),
        (("--diff", "x", "--by", "op"), "--by has no effect with --diff"),
        (("--diff", "x", "--node", "1"), "--node has no effect with --diff"),
        (("--node", "1", "--by", "op"), "it has no rows by op"),
    ],
)
def test_what_is_not_there_is_a_usage_error(  # type: ignore[no-untyped-def]
    piped, session: str, arguments: tuple[str, ...], said: str
) -> None:
    outcome = piped("inspect", session, *arguments)
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.parametrize(
    "option",
    [("--diff", "x"), ("--graph", "1"), ("--node", "1"), ("--format", "dot")],
)
def test_options_for_graphs_are_refused_for_a_model(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, option: tuple[str, str]
) -> None:
    model = write_gguf(tmp_path / "model.gguf", random_bytes())
    outcome = piped("inspect", str(model), *option)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{option[0]} has no effect on a GGUF" in outcome.err


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording, in which weights are most of the bytes."""
    return recorded_here(tmp_path_factory.mktemp("r") / "graph.bin").read_bytes()


@pytest.mark.parametrize("tenth", range(10))
def test_flipped_bit_anywhere_is_damage(  # type: ignore[no-untyped-def]
    piped, recorded: bytes, tmp_path: Path, tenth: int
) -> None:
    damaged, path = bytearray(recorded), tmp_path / "graph.bin"
    damaged[16 + (len(recorded) - 17) * tenth // 9] ^= 4
    path.write_bytes(damaged)
    outcome = piped("inspect", str(path))
    # A wrong length looks like the end of the file.
    assert outcome.code == 9 or "is truncated" in outcome.err
    assert outcome.err.count("\n") == 1


def test_truncated_recording_is_told(piped, recorded: bytes, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "graph.bin"
    path.write_bytes(recorded[:-10])
    outcome = piped("inspect", str(path))
    assert outcome.code == 0
    assert f"{path} is truncated: its complete part is shown" in outcome.err
    path.write_bytes(recorded[:500])
    outcome = piped("inspect", str(path))
    assert (outcome.code, outcome.out) == (9, "")
    assert "is truncated before its first graph" in outcome.err


def test_foreign_file_has_its_exit_code(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "text"
    path.write_text("hello, this is not a recording")
    assert piped("inspect", str(path)).code == 9
    assert piped("inspect", str(tmp_path / "none")).code == 9
