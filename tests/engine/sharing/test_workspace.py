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
def workspace(endpoint) -> Iterator[Workspace]:  # type: ignore[no-untyped-def]
    with connect(endpoint, timeout=60) as server:
        yield Workspace(server)


def test_written_values_are_read_back(workspace: Workspace) -> None:
    workspace.alloc("x", "f32", [3, 2])
    assert workspace.get("x").values.tolist() == [[0] * 3] * 2
    workspace.set("x", [[1, 2, 3], [4, 5, 6]])
    assert workspace.get("x").values.tolist() == [[1, 2, 3], [4, 5, 6]]
    workspace.set("x", 7)
    assert workspace.get("x").values.tolist() == [[7] * 3] * 2
    workspace.clear("x", 0)
    assert not workspace.get("x").values.any()
    workspace.set("y", [[0.5] * 32], "q8_0")
    assert workspace.get("y").tensor.type.name == "Q8_0"
    with pytest.raises(
        ConfigError, match=r"shape \(2,\) does not fit ne \[32, 1, 1, 1\]"
    ):
        workspace.set("y", [1, 2])
    workspace.set("y", [1, 2], "f32")
    assert workspace.get("y").values.tolist() == [1, 2]


def test_random_values_are_the_same_every_time(workspace: Workspace) -> None:
    workspace.alloc("x", "q4_0", [64, 2])
    workspace.randomize("x")
    first = workspace.get("x").values
    workspace.clear("x", 0)
    workspace.randomize("x")
    assert np.array_equal(workspace.get("x").values, first)
    assert first.std() > 0.5


def test_every_type_takes_random_values(workspace: Workspace) -> None:
    for type in "iq2_xxs", "i32", "bf16":
        workspace.alloc("x", type, [256, 2])
        workspace.randomize("x")
        assert workspace.get("x").values.any()


def test_whole_numbers_stay_exact(workspace: Workspace) -> None:
    workspace.set("x", [(1 << 53) + 1], "i64")
    assert workspace.get("x").values.tolist() == [(1 << 53) + 1]


def test_graph_of_a_captured_session_is_loaded_and_computed(
    workspace: Workspace,
) -> None:
    session = shared("traces/7.0.0")
    workspace.load(session, 1)
    weights = {n for n, t in workspace.stored.items() if n.endswith(".weight")}
    assert "blk.0.attn_q.weight" in weights and "result_output" in workspace.nodes
    for name in weights:
        workspace.randomize(name)
    workspace.compute(["result_output"])
    assert workspace.get("result_output").values.shape == (6, 512)
    kept = {name: workspace.stored[name] for name in weights}
    workspace.load(session, 2)  # the weights stay, but there are fewer tokens
    assert {name: workspace.stored[name] for name in weights} == kept
    workspace.compute([])
    assert workspace.get("result_output").values.shape == (512,)
    with pytest.raises(ConfigError, match="has no graph 3: it has 2 graphs"):
        workspace.load(session, 3)
    with pytest.raises(RecordingError, match="No such file"):
        workspace.load(Path("/nix"), 1)
    workspace.compute([])  # the graph was not replaced


def test_files_are_read_and_written(workspace: Workspace, tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.save(tmp_path / "in.npy", array)
    workspace.set("x", tmp_path / "in.npy")
    workspace.save("x", tmp_path / "out.npy", force=False)
    assert np.array_equal(np.load(tmp_path / "out.npy"), array)
    workspace.save("x", tmp_path / "out.bin", force=False)
    assert (tmp_path / "out.bin").read_bytes() == array.tobytes()
    (tmp_path / "out.bin").write_bytes((array + 1).tobytes())
    workspace.set("x", tmp_path / "out.bin")
    assert np.array_equal(workspace.get("x").values, array + 1)
    with pytest.raises(FileError, match="already exists: use --force"):
        workspace.save("x", tmp_path / "out.npy", force=False)
    workspace.save("x", tmp_path / "out.npy", force=True)
    assert np.array_equal(np.load(tmp_path / "out.npy"), array + 1)


def test_graph_is_built_by_name_and_computed_again(workspace: Workspace) -> None:
    workspace.set("x", [1, 2, 3])
    workspace.node("y", "scale", ["x"], {"scale": 2})
    workspace.node("z", "add", ["y", "x"], {})
    workspace.compute([])
    assert workspace.get("z").values.tolist() == [3, 6, 9]
    workspace.set("x", [0, 0, 1])
    workspace.recompute()
    assert workspace.get("z").values.tolist() == [0, 0, 3]
    workspace.compute(["y"])
    assert list(workspace.outputs) == ["y"]
    workspace.node("part", "top_k", ["z"], {"k": 1})
    workspace.compute([])
    assert workspace.get("part").values.tolist() == [2]


def test_results_are_saved(workspace: Workspace, tmp_path: Path) -> None:
    workspace.set("x", [1, 4])
    workspace.node("y", "sqrt", ["x"], {})
    workspace.compute([])
    workspace.save("y", tmp_path / "y.npy", force=False)
    assert np.load(tmp_path / "y.npy").tolist() == [1, 2]


def test_free_discards_the_graph_that_uses_the_tensor(workspace: Workspace) -> None:
    workspace.set("x", [1])
    workspace.node("y", "neg", ["x"], {})
    workspace.compute([])
    workspace.free("x")
    assert not workspace.nodes and not workspace.outputs and not workspace.stored
    with pytest.raises(ConfigError, match="there is no graph yet"):
        workspace.compute([])
    workspace.set("x", [5])
    workspace.close()
    assert not workspace.stored


def test_missing_file_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(FileError, match=r"cannot read /nix\.npy: No such file"):
        workspace.set("x", Path("/nix.npy"))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda b: b.get("nix"), "there is no tensor 'nix'"),
        (
            lambda b: b.alloc("1x", "f32", [1]),
            "'1x' is taken, or not a valid name for a tensor",
        ),
        (lambda b: b.alloc("x", "f33", [1]), "there is no type 'f33'"),
        (lambda b: b.set("x", [[1], [2, 3]]), "the values must be numbers"),
        (lambda b: b.set("x", [None]), "the values must be numbers"),
        (lambda b: b.alloc("x", "f32", [-3]), "none of them negative"),
        (lambda b: b.node("y", "arange", [1, 2], {"name": "z"}), "before the op"),
        (lambda b: b.node("y", "explode", [], {}), "there is no op 'explode'"),
        (lambda b: b.node("y", "sqr", ["nix"], {}), "there is no tensor 'nix'"),
        (lambda b: b.node("y", "sqr", [], {}), "sqr: missing a required argument"),
        (lambda b: b.node("two words", "sqr", [], {}), "not a valid name for a node"),
        (lambda b: b.recompute(), "nothing was computed yet"),
    ],
)
def test_invalid_arguments_are_errors(workspace: Workspace, act, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        act(workspace)


def test_broken_rules_and_missing_devices_are_errors(workspace: Workspace) -> None:
    workspace.set("x", [1, 2])
    with pytest.raises(GraphError, match="repeat into"):
        workspace.node("y", "repeat", ["x"], {"ne": [3]})
    workspace.node("y", "sqr", ["x"], {})
    with pytest.raises(ConfigError, match="the graph has no node 'x'"):
        workspace.compute(["x"])
    with pytest.raises(ConfigError, match="is taken, or not a valid name for a tensor"):
        workspace.alloc("y", "f32", [1])
    with pytest.raises(RefusedError, match="has no device 3"):
        workspace.use(3)


def test_ops_are_those_of_the_builder() -> None:
    assert {"mul_mat", "silu", "view", "cast", "swiglu"} <= OPS
    assert not {"graph", "node", "tensors", "none", "unary"} & OPS
