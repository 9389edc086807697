"""llama.cpp's clients and servers of every protocol version that can be built."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from ggrpc.engine.client.client import connect
from ggrpc.formats.nmse import nmse
from tests.conftest import runs_all
from tests.support.case import run_case
from tests.support.cases.arithmetic import cases
from tests.support.clients import hello
from tests.support.command_lines import LINES, Files, files_in
from tests.support.command_processes import RunningCommand
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
from tests.support.recordings import recorded_here

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
COMMANDS = st.tuples(
    st.sampled_from(sorted(LINES)),
    st.sampled_from((0.3, 30.0)),  # seconds of --timeout
    st.sampled_from((None, signal.SIGINT, signal.SIGKILL)),
)
STEPS = st.lists(st.one_of(CLIENTS, COMMANDS), min_size=6, max_size=10)
Step = str | tuple[str, float, signal.Signals | None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    return files_in(folder, recorded_here(folder / "graph.bin"))


@pytest.mark.timeout(1200)
def test_no_client_of_an_address_is_rejected_twice(
    request: pytest.FixtureRequest, files: Files
) -> None:
    """Clients of three versions, and commands that end in three ways, in any order."""
    everything = runs_all(request.config)
    phases = [Phase.explicit, Phase.generate]  # to shrink would take too long

    @settings(
        max_examples=20 if everything else 3,
        derandomize=not everything,
        deadline=None,
        phases=phases,
    )
    @given(STEPS)
    @example([NEWEST, ("probe", 30.0, None), "0.3.36", ("bench", 30.0, None), NEWEST])
    def none_is_rejected_twice(steps: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as name, serving(state=Path(name)) as served:
            for step in steps:
                if isinstance(step, str):
                    assert tries(served, step, Path(name)) <= 2
                else:
                    run_command(step, served, files)

    none_is_rejected_twice()


def run_command(step: tuple, served: Served, files: Files) -> None:  # type: ignore[type-arg]
    name, timeout, number = step
    command = RunningCommand(name, served.endpoint, files, timeout)
    if number or name == "push --hold":  # only a signal ends that one
        command.interrupt(number or signal.SIGINT)
    command.end()
