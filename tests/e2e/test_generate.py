"""llama.cpp's client generates on `ggrpc serve`, alone and beside other clients."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.random_model import SMALL, Shape, write_model
from ggrpc.engine.client.client import connect
from ggrpc.formats.nmse import nmse
from ggrpc.types import GGMLType
from tests.support.generations import assert_same_generation
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import (
    Served,
    finish_client,
    generate,
    native_serving,
    serving,
    start_client,
)

PREDICT = 6
OLD = "0.3.17"  # protocol 3.6.1
MODELS = {"micro_f16": 1e-6, "micro_q8_0": 1e-3, "micro_q4_0": 1e-3}
K_QUANTS = [GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K]


@pytest.fixture(scope="module")
def served():  # type: ignore[no-untyped-def]
    with serving() as served:
        yield served


def model(name: str) -> Path:
    return shared(f"peer/models/{name}.gguf")


def compare(version: str, path: Path, tmp: Path, limit: float, *endpoints) -> None:  # type: ignore[no-untyped-def]
    theirs = generate(version, path, tmp / "local.npy", PREDICT, "local")
    ours = generate(version, path, tmp / "ours.npy", PREDICT, *endpoints)
    assert_same_generation(ours, theirs, limit)


@pytest.mark.parametrize("version", [NEWEST, OLD])
@pytest.mark.parametrize("name", MODELS)
def test_native_client_generates_as_local(
    served: Served, tmp_path: Path, version: str, name: str
) -> None:
    compare(version, model(name), tmp_path, MODELS[name], served.endpoint)


@pytest.mark.parametrize("type", K_QUANTS, ids=lambda t: t.name)
def test_k_quants_generate_as_local(
    served: Served, tmp_path: Path, type: GGMLType
) -> None:
    path = write_model(tmp_path / "model.gguf", type, SMALL)
    compare(NEWEST, path, tmp_path, 1e-3, served.endpoint)


def test_weights_beyond_the_cache_generate_as_local(tmp_path: Path) -> None:
    with serving("--weight-cache", "0") as served:
        compare(NEWEST, model("micro_q8_0"), tmp_path, 1e-3, served.endpoint)


@pytest.mark.parametrize("version", [NEWEST, OLD])
def test_model_split_over_two_ggrpc_servers(
    served: Served, tmp_path: Path, version: str
) -> None:
    with serving() as other:
        endpoints = served.endpoint, other.endpoint
        compare(version, model("micro_f16"), tmp_path, 1e-6, *endpoints)
        assert "session ended" in _eventually(other, "session ended")


@pytest.mark.parametrize("version", [NEWEST, OLD])
def test_model_split_over_ggrpc_and_native(
    served: Served, tmp_path: Path, version: str
) -> None:
    with native_serving(version) as native:
        compare(version, model("micro_f16"), tmp_path, 1e-6, served.endpoint, native)


def test_two_clients_generate_at_once_while_probes_answer(
    served: Served, tmp_path: Path
) -> None:
    path = model("micro_f16")
    outs = [tmp_path / "new.npy", tmp_path / "old.npy"]
    alone = [
        generate(version, path, tmp_path / "alone.npy", 60, served.endpoint)
        for version in (NEWEST, OLD)
    ]
    clients = [
        start_client(version, path, out, 60, served.endpoint)
        for version, out in zip((NEWEST, OLD), outs, strict=True)
    ]
    slowest, probes = 0.0, 0
    while any(client.poll() is None for client in clients):
        start = time.monotonic()
        with connect(served.endpoint, timeout=5) as client:
            assert client.memory().free > 0
        slowest, probes = max(slowest, time.monotonic() - start), probes + 1
        time.sleep(0.01)
    for client, out, (tokens, reference) in zip(clients, outs, alone, strict=True):
        generated, logits = finish_client(client, out)
        assert generated == tokens
        assert nmse(logits, reference) < 1e-6
    assert probes > 5
    print(f"{probes} probes, the slowest took {slowest * 1e3:.0f} ms")


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_operator_commands_answer_while_a_client_generates(
    served: Served, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out.npy"
    client = start_client(NEWEST, model("micro_q8_0"), out, 200, served.endpoint)
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "ggrpc", command, str(served.endpoint), "--json"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        finish_client(client, out)
    assert answer.returncode == 0, answer.stderr
    assert str(served.endpoint) in answer.stdout


def test_memory_of_a_client_killed_while_loading_is_freed(tmp_path: Path) -> None:
    shape = Shape(n_layer=12, n_embd=2048, n_ff=5632, n_vocab=4000)
    path = write_model(tmp_path / "model.gguf", GGMLType.Q4_0, shape)
    size = path.stat().st_size
    with serving() as served:
        process = psutil.Process(served.process.pid)
        with connect(served.endpoint, timeout=10) as client:
            free = client.memory().free
            before = process.memory_info().rss
            for _ in range(2):
                _kill_while_loading(served, path, tmp_path, before + size // 4)
            served.wait_for_line("session ended")
            _until(lambda: process.memory_info().rss < before + 20e6)
            _until(lambda: client.memory().free > free - 200e6)
        compare(NEWEST, model("micro_f16"), tmp_path, 1e-6, served.endpoint)


def _kill_while_loading(served: Served, path: Path, tmp: Path, until: float) -> None:
    """Kill a client when the server uses `until` bytes of memory."""
    server = psutil.Process(served.process.pid)
    loader = start_client(NEWEST, path, tmp / "never.npy", 1, served.endpoint)
    _until(lambda: server.memory_info().rss > until)
    loader.send_signal(signal.SIGKILL)
    loader.communicate()
    assert not (tmp / "never.npy").exists()


def _until(holds, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _eventually(served: Served, text: str) -> str:
    served.wait_for_line(text)
    return served.log


def test_captured_logits_are_reproduced(served: Served, tmp_path: Path) -> None:
    peer_python(NEWEST)
    captured = np.load(shared("traces/7.0.0/logits.npy"))
    _, logits = generate(
        NEWEST, model("micro_f16"), tmp_path / "out.npy", PREDICT, served.endpoint
    )
    assert nmse(logits, captured) < 1e-6
