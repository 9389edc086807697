"""llama.cpp's clients and servers of every protocol version that can be built."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ggrpc.engine.client.client import connect
from ggrpc.formats.nmse import nmse
from tests.support.case import run_case
from tests.support.cases.arithmetic import cases
from tests.support.clients import hello
from tests.support.oracle import run_case_on
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import (
    Served,
    finish_client,
    generate,
    native_serving,
    serving,
    start_client,
)

# The protocol of each release. CI always has the first three.
PEERS = {
    NEWEST: "8.0.0",
    "0.3.36": "7.0.0",
    "0.3.17": "3.6.1",
    "0.3.16": "2.0.0",
    "0.3.24": "4.0.0",
    "0.3.35": "5.0.0",
    "2026.8.10566": "5.1.0",
    "2026.9.10809": "6.0.0",
}
TOKENS = [1, 285, 373, 84, 9, 341, 45, 464, 4, 116, 458, 458]
PREDICT = 6
MAX_TRIES = 4
COUNT_DEVICES = struct.pack("<BQ", 15, 0)


@pytest.fixture(params=PEERS, ids=PEERS.get)
def release(request) -> str:  # type: ignore[no-untyped-def]
    peer_python(request.param)
    return str(request.param)


def tries(served: Served, release: str, folder: Path) -> int:
    """How often a client must be started until it generates; checks the result."""
    model, out = shared("peer/models/micro_f16.gguf"), folder / "out.npy"
    for count in range(1, MAX_TRIES + 1):
        client = start_client(release, model, out, PREDICT, served.endpoint)
        if client.wait(60) == 0:
            tokens, logits = finish_client(client, out)
            captured = np.load(shared("traces/8.0.0/logits.npy"))  # as in all
            assert tokens == TOKENS
            assert nmse(logits, captured) < 1e-6
            return count
        client.communicate()
    raise AssertionError(f"not within {MAX_TRIES} tries:\n{served.log}")


def test_native_client_is_learned_and_remembered(release: str, tmp_path: Path) -> None:
    with serving(state=tmp_path) as served:
        first = tries(served, release, tmp_path)
        if PEERS[release] in ("8.0.0", "3.6.1"):
            assert first == 1
        else:
            served.wait_for_line("remembered")
        assert tries(served, release, tmp_path) == 1
    with serving(state=tmp_path) as restarted:
        assert tries(restarted, release, tmp_path) == 1


def test_native_client_generates_with_its_version_fixed(
    release: str, tmp_path: Path
) -> None:
    with serving("--protocol", PEERS[release]) as served:
        assert tries(served, release, tmp_path) == 1


def test_two_old_versions_are_served_with_one_of_each_kind(tmp_path: Path) -> None:
    for release in ("0.3.16", "0.3.35"):
        peer_python(release)
    with serving("--protocol", "2.0,5.0") as served:
        for release in ("0.3.16", "0.3.35"):
            assert tries(served, release, tmp_path) == 1


def test_probe_and_mem_show_native_servers(release: str) -> None:
    with native_serving(release) as endpoint:
        rows = {
            command: json.loads(
                subprocess.run(
                    [sys.executable, "-m", "ggrpc", command, str(endpoint), "--json"],
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=60,
                ).stdout
            )
            for command in ("probe", "mem")
        }
    assert rows["probe"]["protocol"] == PEERS[release]
    assert rows["probe"]["alignment_bytes"] == 32
    assert rows["probe"]["clients"].startswith("since 202")
    assert rows["mem"]["memory_total_bytes"] > 1 << 28


def test_model_generates_the_same_on_both_servers(release: str, tmp_path: Path) -> None:
    model = shared("peer/models/micro_q4_0.gguf")
    with (
        native_serving(release) as native,
        serving("--protocol", PEERS[release]) as ours,
    ):
        results = [
            generate(release, model, tmp_path / "out.npy", PREDICT, endpoint)
            for endpoint in (native, ours.endpoint)
        ]
    assert results[0][0] == results[1][0]
    assert nmse(results[1][1], results[0][1]) < 1e-3


def test_graphs_run_on_native_servers(release: str, cpu_device) -> None:  # type: ignore[no-untyped-def]
    with native_serving(release) as endpoint, connect(endpoint, timeout=60) as client:
        for name, case in list(cases())[:8]:
            expected = run_case_on(client, case)
            for key, value in run_case(cpu_device, case).items():
                assert nmse(value, expected[key]) < 1e-7, name


def test_commands_and_health_checks_take_no_version_away(tmp_path: Path) -> None:
    """They run while a client is at work with the version of the address."""
    with serving(state=tmp_path) as served:
        assert tries(served, "0.3.36", tmp_path) == 2
        working = hello(served.endpoint)
        working.sendall(COUNT_DEVICES)
        working.recv(12)
        for command in (["probe"], ["mem"], ["bench", "--rounds", "1"]):
            name, *flags = command
            arguments = [sys.executable, "-m", "ggrpc", name, str(served.endpoint)]
            subprocess.run([*arguments, *flags], check=True, capture_output=True)
            hello(served.endpoint).close()
            assert tries(served, "0.3.36", tmp_path) == 1
        working.close()


CLIENTS = st.sampled_from((NEWEST, "0.3.36", "0.3.17"))
LOOKS = st.sampled_from(("probe", "mem", "bench --rounds 1 --sizes 4K", "check"))


@settings(max_examples=3, deadline=None, phases=[Phase.generate], derandomize=True)
@given(st.lists(st.tuples(CLIENTS, LOOKS), min_size=3, max_size=5))
def test_no_client_of_an_address_is_rejected_twice(
    steps: list[tuple[str, str]],
) -> None:
    """Clients of three versions in any order, with ggrpc's commands in between."""
    with tempfile.TemporaryDirectory() as name, serving(state=Path(name)) as served:
        for release, look in steps:
            assert tries(served, release, Path(name)) <= 2
            command = [sys.executable, "-m", "ggrpc", *look.split()]
            subprocess.run(
                [*command, str(served.endpoint)], check=True, capture_output=True
            )
