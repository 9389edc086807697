from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ggrpc.building import GraphBuilder
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from ggrpc.engine.client.client import connect
from ggrpc.engine.client.remote_device import RemoteServer
from ggrpc.engine.compute.computation import Computation, compute
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.errors import Cancelled, ConfigError, TransportTimeout, UnsupportedOp
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.tensor import Tensor
from tests.support.paths import NEWEST
from tests.support.processes import native_serving
from tests.support.servers import running

X = np.random.default_rng(0).standard_normal((3, 64), np.float32)
W = np.random.default_rng(1).standard_normal((5, 64), np.float32)
V = np.random.default_rng(2).standard_normal((7, 5), np.float32)


class Devices:
    """Two local devices, two of a server of ggrpc, and one of a native server."""

    def __init__(self, ours: RemoteServer, native: RemoteServer) -> None:
        self.local: Device = CpuDevice(threads=1)
        self.local2: Device = CpuDevice(threads=1)
        self.remote: Device = ours.device()
        self.remote2: Device = ours.device(1)
        self.native: Device = native.device()

    def get(self, names: str) -> list[Device]:
        return [getattr(self, name) for name in names.split()]


@pytest.fixture(scope="module")
def devices() -> Iterator[Devices]:
    two = [CpuDevice(threads=1, weight_cache=0) for _ in range(2)]
    with (
        running(*two) as endpoint,
        native_serving(NEWEST) as native,
        RemoteServer(connect(endpoint, timeout=60)) as ours,
        RemoteServer(connect(native, timeout=60)) as theirs,
    ):
        yield Devices(ours, theirs)


def product(g: GraphBuilder):  # type: ignore[no-untyped-def]
    w, x = g.tensor("F32", 64, 5, name="w"), g.tensor("F32", 64, 3, name="x")
    return w, x, g.mul_mat(w, x, name="y")


def two_layers(g: GraphBuilder):  # type: ignore[no-untyped-def]
    w, x, y = product(g)
    v = g.tensor("F32", 5, 7, name="v")
    return w, x, v, g.mul_mat(v, g.relu(y), name="z")


EXPECTED = np.maximum(X @ W.T, 0) @ V.T


def test_graph_is_computed_on_the_cpu_by_default() -> None:
    g = GraphBuilder()
    w, x, y = product(g)
    (result,) = compute(g, {w: W, x: X}).values()
    assert nmse(result, X @ W.T) < 1e-10
    assert nmse(compute(g, {w: W, x: X}, outputs=[y])[y], X @ W.T) < 1e-10


@pytest.mark.parametrize(
    "names",
    [
        *("local", "remote", "native", "local local2", "local remote"),
        *("remote remote2", "native remote"),
    ],
)
def test_nodes_run_on_the_device_of_their_weights(devices, names: str) -> None:  # type: ignore[no-untyped-def]
    first, *rest = devices.get(names)
    second = rest[0] if rest else first
    g = GraphBuilder()
    w, x, v, z = two_layers(g)
    with DeviceTensor.of(first, W) as one, DeviceTensor.of(second, V) as two:
        with Computation(g, {w: one, v: two}) as computation:
            assert computation.device_of(z) is second
            assert nmse(computation.run({x: X})[z], EXPECTED) < 1e-10
            again = computation.run({x: -X})[z]
            assert nmse(again, np.maximum(X @ -W.T, 0) @ V.T) < 1e-10
        assert np.array_equal(one.numpy(), W)


def test_placement_chooses_the_device_of_a_node(devices: Devices) -> None:
    g = GraphBuilder()
    w, x, y = product(g)
    z = g.relu(y)
    local, remote = devices.local, devices.remote
    with Computation(
        g, {w: W, x: X}, devices=[local], placement={z: remote}
    ) as computation:
        assert computation.device_of(y) is local
        assert computation.device_of(z) is remote
        assert nmse(computation.run()[z], np.maximum(X @ W.T, 0)) < 1e-10


def test_tensor_is_copied_again_after_a_write(devices: Devices) -> None:
    """A cache on one device is read on another, before and after a write to it."""
    g = GraphBuilder()
    cache, rows = g.tensor("F32", 4, 3), g.tensor("F32", 4, 1)
    at = g.tensor("I64", 1)
    before = g.scale(cache, scale=1)
    written = g.set_rows(cache, rows, at)
    after = g.scale(g.view(written, [4, 3]), scale=2)
    wanted = {written: devices.local, before: devices.remote, after: devices.remote}
    with Computation(g, devices=[devices.local], placement=wanted) as computation:
        row = np.ones((1, 4), np.float32)
        values = computation.run({rows: row, at: np.array([1])})
        assert not values[before].any()
        assert values[after].tolist() == [[0] * 4, [2] * 4, [0] * 4]
        values = computation.run({at: np.array([2])})
        assert values[before].tolist() == [[0] * 4, [1] * 4, [0] * 4]
        assert values[after].tolist() == [[0] * 4, [2] * 4, [2] * 4]


def test_output_can_be_a_transposed_view() -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 64, 3)
    y = g.sqr(x)
    turned = g.transpose(y)
    assert np.array_equal(compute(g, {x: X}, outputs=[turned])[turned], (X * X).T)


def test_quantized_weights_and_integer_results(devices: Devices) -> None:
    g = GraphBuilder()
    w, x = g.tensor("Q8_0", 64, 5), g.tensor("F32", 64, 3)
    best = g.argmax(g.mul_mat(w, x))
    with DeviceTensor.of(devices.native, W, "Q8_0") as stored:
        result = compute(g, {w: stored, x: X})[best]
    assert result.dtype == np.int32
    assert np.array_equal(result, (X @ W.T).argmax(axis=1))


def test_missing_or_wrong_data_is_an_error() -> None:
    g = GraphBuilder()
    w, x, y = product(g)
    with pytest.raises(ConfigError, match="no data was given for w, x"):
        compute(g)
    with pytest.raises(ConfigError, match=r"'w' is \[64, 5, 1, 1\], .* \[64, 3"):
        compute(g, {w: X, x: X})
    with pytest.raises(ConfigError, match="MUL_MAT 'y' is not a leaf"):
        compute(g, {y: X})
    with (
        Computation(g, {w: W, x: X}) as computation,
        pytest.raises(ConfigError, match="is not used by the graph"),
    ):
        computation.device_of(g.tensor("F32", 1))


def test_data_can_be_raw_bytes() -> None:
    g = GraphBuilder()
    w, x, y = product(g)
    assert nmse(compute(g, {w: W.tobytes(), x: X})[y], X @ W.T) < 1e-10
    with pytest.raises(ConfigError, match="'w' has 1280 bytes, but its data has 8"):
        compute(g, {w: bytes(8), x: X})


def test_device_tensor_of_another_shape_is_refused(devices: Devices) -> None:
    g = GraphBuilder()
    w, x, _ = product(g)
    with (
        DeviceTensor.of(devices.local, X) as stored,
        pytest.raises(ConfigError, match="its data"),
    ):
        compute(g, {w: stored, x: X})


def test_device_tensor_of_another_type_is_refused(devices: Devices) -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 4)
    g.sqr(x)
    with (
        DeviceTensor.of(devices.local, np.zeros(4, np.float64)) as stored,
        pytest.raises(ConfigError, match="is F32, but that of its data is F64"),
    ):
        Computation(g, {x: stored})


def test_placement_away_from_the_written_tensor_is_refused(devices: Devices) -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 64, 3)
    y = g.scale(x, scale=2, inplace=True)
    with DeviceTensor.of(devices.local, X) as stored:
        with pytest.raises(ConfigError, match="must be computed on cpu"):
            compute(g, {x: stored}, placement={y: devices.remote})
        assert np.array_equal(compute(g, {x: stored})[y], 2 * X)
        assert np.array_equal(stored.numpy(), 2 * X)


class MulMatDevice(CpuDevice):
    """Supports only MUL_MAT."""

    def supports(self, node: Node) -> bool:
        return node.tensor.op is Op.MUL_MAT


def test_unsupported_node_runs_on_another_device() -> None:
    g = GraphBuilder()
    w, x, v, z = two_layers(g)
    data = {w: W, x: X, v: V}
    mul_mat, local = MulMatDevice(threads=1), CpuDevice(threads=1)
    with pytest.raises(
        UnsupportedOp, match=r"UNARY .*: no kernel for these types on cpu"
    ):
        compute(g, data, devices=[mul_mat])
    with Computation(g, data, devices=[mul_mat, local]) as computation:
        assert computation.device_of(z) is local
        assert nmse(computation.run()[z], EXPECTED) < 1e-10


class SmallBufferDevice(CpuDevice):
    """Limits buffers to 1 KiB."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.max_size = 1024


def test_memory_is_split_into_buffers_that_the_device_allows() -> None:
    g = GraphBuilder()
    x = g.tensor("F32", 64)
    y = x
    for _ in range(9):
        y = g.scale(y, scale=2)
    result = compute(g, {x: X[0]}, devices=[SmallBufferDevice()])[y]
    assert np.array_equal(result, X[0] * 512)


def test_close_frees_the_memory(devices: Devices) -> None:
    local = devices.local
    g = GraphBuilder()
    w, x, _ = product(g)
    with Computation(g, {w: W, x: X}, devices=[local]):
        assert local._handed_out > 0  # type: ignore[attr-defined]
    assert local._handed_out == 0  # type: ignore[attr-defined]


def test_threads_share_a_computation() -> None:
    g = GraphBuilder()
    x, y = g.tensor("F32", 4096), g.tensor("F32", 4096)
    z = g.sub(x, y)
    with Computation(g) as computation:

        def run(value: int) -> None:
            array = np.full(4096, value, np.float32)
            assert not computation.run({x: array, y: array})[z].any()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(200)))


def long_graph() -> tuple[GraphBuilder, Tensor]:
    """200 products, which take a second or more."""
    g = GraphBuilder()
    x = y = g.tensor("F32", 1024, 1024)
    for _ in range(200):
        y = g.mul_mat(x, y)
    return g, x


def test_local_computation_is_cancelled_by_another_thread() -> None:
    g, x = long_graph()
    with Computation(g, {x: np.zeros((1024, 1024), np.float32)}) as computation:
        timer = threading.Timer(0.1, computation.cancel)
        timer.start()
        with pytest.raises(Cancelled, match="was cancelled"):
            computation.run()
        with pytest.raises(Cancelled):
            computation.run()
        timer.join()


def test_local_computation_times_out() -> None:
    g, x = long_graph()
    with (
        Computation(g, {x: np.zeros((1024, 1024), np.float32)}) as computation,
        pytest.raises(TransportTimeout, match=r"within 0\.1 s"),
    ):
        computation.run(timeout=0.1)


def test_remote_computation_is_cancelled_with_its_session() -> None:
    g, x = long_graph()
    with running() as endpoint, RemoteServer(connect(endpoint, timeout=60)) as server:
        data = {x: np.zeros((1024, 1024), np.float32)}
        with Computation(g, data, devices=[server.device()]) as computation:
            timer = threading.Timer(0.1, computation.cancel)
            timer.start()
            ended = r"closed the connection to"
            with pytest.raises(Cancelled, match=ended):  # noqa: PT012  it takes a while
                while True:
                    computation.run()
            timer.join()
