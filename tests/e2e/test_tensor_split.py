"""llama.cpp's `-sm tensor`: two servers add their parts of each tensor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.random_model import SMALL, write_model
from ggrpc.endpoint import Endpoint
from ggrpc.types import GGMLType
from tests.support.certificates import make_certificates
from tests.support.generations import assert_same_generation
from tests.support.paths import NEWEST
from tests.support.processes import (
    Served,
    generate,
    native_serving,
    serving,
    tunnel_to,
)
from tests.support.recordings import recording

SCRIPT = Path(__file__).parents[1] / "support" / "llama_tensor_split.py"
PREDICT = 4
LIMIT = 1e-4  # of the NMSE: elements may be rounded to BF16 in either direction


class Model:
    """A model, and its generation on two native servers."""

    def __init__(self, folder: Path) -> None:
        self._logits = folder / "logits.npy"
        self._path = write_model(folder / "model.gguf", GGMLType.F16, SMALL)
        with native_serving(NEWEST) as one, native_serving(NEWEST) as other:
            self._expected = self._generated(one, other)

    def check(self, *endpoints: Endpoint) -> None:
        """Check that other servers generate the same."""
        assert_same_generation(self._generated(*endpoints), self._expected, LIMIT)

    def _generated(self, *endpoints: Endpoint):  # type: ignore[no-untyped-def]
        arguments = self._path, self._logits, PREDICT
        return generate(NEWEST, *arguments, *endpoints, script=SCRIPT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tmp_path_factory.mktemp("model"))


@contextmanager
def two_serving(*flags: str, device: str | None = "cpu") -> Iterator[list[Served]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(*flags, device=device)) for _ in range(2)]


def is_linked(served: Served) -> bool:
    return "is linked with" in served.log


@pytest.mark.parametrize("device", ["cpu", None], ids=["cpu", "best"])
def test_two_ggrpc_servers_generate_as_two_native_ones(
    model: Model, device: str | None
) -> None:
    with two_serving(device=device) as servers:
        for one, other in (servers, servers[::-1]):
            model.check(one.endpoint, other.endpoint)
        assert all(served.log.count("is linked with") == 2 for served in servers)
        assert not any("WARN" in served.log for served in servers)


def test_ggrpc_and_native_servers_generate_in_either_rank(model: Model) -> None:
    with serving() as served, native_serving(NEWEST) as native:
        model.check(served.endpoint, native)
        served.wait_for_line("as rank 0")
        model.check(native, served.endpoint)
        served.wait_for_line("as rank 1")


def test_client_adds_by_itself_if_links_are_refused(model: Model) -> None:
    with serving() as one, serving("--no-comm") as other:
        model.check(one.endpoint, other.endpoint)
        other.wait_for_line(
            "has no link, so llama.cpp adds the parts itself: --no-comm is set"
        )
        assert not is_linked(one)


def test_servers_behind_tunnels_link_over_tls(model: Model, tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    flags = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    with two_serving(*flags) as servers, ExitStack() as stack:
        tunnels = [tunnel_to(s.endpoint, files) for s in servers]
        plain = [stack.enter_context(tunnel)[1] for tunnel in tunnels]
        model.check(*plain)
        assert all(map(is_linked, servers))


def test_recorders_do_not_keep_servers_from_linking(
    model: Model, tmp_path: Path
) -> None:
    files = [tmp_path / "0.bin", tmp_path / "1.bin"]
    with two_serving() as servers, ExitStack() as stack:
        recorders = [
            stack.enter_context(recording(served.endpoint, file))
            for served, file in zip(servers, files, strict=True)
        ]
        model.check(*(recorder.endpoint for recorder in recorders))
        assert all(map(is_linked, servers))
    for file in files:
        replayed = subprocess.run(
            [sys.executable, "-m", "ggrpc", "replay", str(file), "-d", "cpu"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "COMM_ALLREDUCE adds data of another server" in replayed.stderr
        assert "set GGML_RPC_NO_COMM=1" in replayed.stderr
