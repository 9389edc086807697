from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.workspace import OPS, Workspace
from ggrpc.errors import (
    ConfigError,
    FileError,
    GraphError,
    RecordingError,
    RefusedError,
)
from tests.support.paths import shared
from tests.support.servers import running


@pytest.fixture(scope="module")
def endpoint():  # type: ignore[no-untyped-def]
    with running() as endpoint:
        yield endpoint


@pytest.fixture
def bench(endpoint) -> Iterator[Workspace]:  # type: ignore[no-untyped-def]
    with connect(endpoint, timeout=60) as server:
        yield Workspace(server)


def test_values_are_written_and_read(bench: Workspace) -> None:
    bench.alloc("x", "f32", [3, 2])
    assert bench.get("x").values.tolist() == [[0] * 3] * 2
    bench.set("x", [[1, 2, 3], [4, 5, 6]])
    assert bench.get("x").values.tolist() == [[1, 2, 3], [4, 5, 6]]
    bench.set("x", 7)
    assert bench.get("x").values.tolist() == [[7] * 3] * 2
    bench.clear("x", 0)
    assert not bench.get("x").values.any()
    bench.set("y", [[0.5] * 32], "q8_0")
    assert bench.get("y").tensor.type.name == "Q8_0"
    with pytest.raises(ConfigError, match=r"shape \(2,\) is no \[32, 1, 1, 1\]"):
        bench.set("y", [1, 2])
    bench.set("y", [1, 2], "f32")
    assert bench.get("y").values.tolist() == [1, 2]


def test_random_values_are_the_same_every_time(bench: Workspace) -> None:
    bench.alloc("x", "q4_0", [64, 2])
    bench.randomize("x")
    first = bench.get("x").values
    bench.clear("x", 0)
    bench.randomize("x")
    assert np.array_equal(bench.get("x").values, first)
    assert first.std() > 0.5


def test_every_type_takes_random_values(bench: Workspace) -> None:
    for type in "iq2_xxs", "i32", "bf16":
        bench.alloc("x", type, [256, 2])
        bench.randomize("x")
        assert bench.get("x").values.any()


def test_whole_numbers_stay_exact(bench: Workspace) -> None:
    bench.set("x", [(1 << 53) + 1], "i64")
    assert bench.get("x").values.tolist() == [(1 << 53) + 1]


def test_graph_of_a_captured_session_is_loaded_and_computed(bench: Workspace) -> None:
    session = shared("traces/7.0.0")
    bench.load(session, 1)
    weights = {n for n, t in bench.stored.items() if n.endswith(".weight")}
    assert "blk.0.attn_q.weight" in weights and "result_output" in bench.nodes
    for name in weights:
        bench.randomize(name)
    bench.compute(["result_output"])
    assert bench.get("result_output").values.shape == (6, 512)
    kept = {name: bench.stored[name] for name in weights}
    bench.load(session, 2)  # the weights are there, the tokens are fewer
    assert {name: bench.stored[name] for name in weights} == kept
    bench.compute([])
    assert bench.get("result_output").values.shape == (512,)
    with pytest.raises(ConfigError, match="has 2 graphs, no 3"):
        bench.load(session, 3)
    with pytest.raises(RecordingError, match="No such file"):
        bench.load(Path("/nix"), 1)
    bench.compute([])  # the graph is there still


def test_files_are_read_and_written(bench: Workspace, tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.save(tmp_path / "in.npy", array)
    bench.set("x", tmp_path / "in.npy")
    bench.save("x", tmp_path / "out.npy", force=False)
    assert np.array_equal(np.load(tmp_path / "out.npy"), array)
    bench.save("x", tmp_path / "out.bin", force=False)
    assert (tmp_path / "out.bin").read_bytes() == array.tobytes()
    (tmp_path / "out.bin").write_bytes((array + 1).tobytes())
    bench.set("x", tmp_path / "out.bin")
    assert np.array_equal(bench.get("x").values, array + 1)
    with pytest.raises(ConfigError, match="already exists: use --force"):
        bench.save("x", tmp_path / "out.npy", force=False)
    bench.save("x", tmp_path / "out.npy", force=True)
    assert np.array_equal(np.load(tmp_path / "out.npy"), array + 1)


def test_graph_is_built_by_name_and_computed_again(bench: Workspace) -> None:
    bench.set("x", [1, 2, 3])
    bench.node("y", "scale", ["x"], {"scale": 2})
    bench.node("z", "add", ["y", "x"], {})
    bench.compute([])
    assert bench.get("z").values.tolist() == [3, 6, 9]
    bench.set("x", [0, 0, 1])
    bench.recompute()
    assert bench.get("z").values.tolist() == [0, 0, 3]
    bench.compute(["y"])
    assert list(bench.outputs) == ["y"]
    bench.node("part", "top_k", ["z"], {"k": 1})
    bench.compute([])
    assert bench.get("part").values.tolist() == [2]


def test_results_are_saved(bench: Workspace, tmp_path: Path) -> None:
    bench.set("x", [1, 4])
    bench.node("y", "sqrt", ["x"], {})
    bench.compute([])
    bench.save("y", tmp_path / "y.npy", force=False)
    assert np.load(tmp_path / "y.npy").tolist() == [1, 2]


def test_graph_goes_with_the_data_that_it_reads(bench: Workspace) -> None:
    bench.set("x", [1])
    bench.node("y", "neg", ["x"], {})
    bench.compute([])
    bench.free("x")
    assert not bench.nodes and not bench.outputs and not bench.stored
    with pytest.raises(ConfigError, match="there is no graph yet"):
        bench.compute([])
    bench.set("x", [5])
    bench.close()
    assert not bench.stored


def test_file_that_is_not_there_is_said(bench: Workspace) -> None:
    with pytest.raises(FileError, match=r"cannot read /nix\.npy: No such file"):
        bench.set("x", Path("/nix.npy"))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda b: b.get("nix"), "there is no tensor 'nix'"),
        (lambda b: b.alloc("1x", "f32", [1]), "'1x' cannot be a tensor's name"),
        (lambda b: b.alloc("x", "f33", [1]), "there is no type 'f33'"),
        (lambda b: b.set("x", [[1], [2, 3]]), "these are no numbers in rows"),
        (lambda b: b.set("x", [None]), "these are no numbers in rows"),
        (lambda b: b.alloc("x", "f32", [-3]), "none of them negative"),
        (lambda b: b.node("y", "arange", [1, 2], {"name": "z"}), "stands before"),
        (lambda b: b.node("y", "explode", [], {}), "there is no op 'explode'"),
        (lambda b: b.node("y", "sqr", ["nix"], {}), "there is no tensor 'nix'"),
        (lambda b: b.node("y", "sqr", [], {}), "sqr: missing a required argument"),
        (lambda b: b.node("two words", "sqr", [], {}), "cannot be a new node's name"),
        (lambda b: b.recompute(), "nothing was computed yet"),
    ],
)
def test_what_makes_no_sense_is_said(bench: Workspace, act, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        act(bench)


def test_broken_rules_and_missing_devices_are_named(bench: Workspace) -> None:
    bench.set("x", [1, 2])
    with pytest.raises(GraphError, match="repeat into"):
        bench.node("y", "repeat", ["x"], {"ne": [3]})
    bench.node("y", "sqr", ["x"], {})
    with pytest.raises(ConfigError, match="the graph has no node 'x'"):
        bench.compute(["x"])
    with pytest.raises(ConfigError, match="cannot be a tensor's name"):
        bench.alloc("y", "f32", [1])
    with pytest.raises(RefusedError, match="has no device 3"):
        bench.use(3)


def test_ops_are_those_of_the_builder() -> None:
    assert {"mul_mat", "silu", "view", "cast", "swiglu"} <= OPS
    assert not {"graph", "node", "tensors", "none", "unary"} & OPS
