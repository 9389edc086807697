"""Clients of llama.cpp load models whose weights the worker already has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.random_model import Shape, write_model
from ggrpc.engine.cache.loading import THRESHOLD
from ggrpc.engine.files.gguf import tensors_of
from ggrpc.formats.nmse import nmse
from ggrpc.types import GGMLType
from tests.support.paths import NEWEST, peer_python
from tests.support.processes import generate, native_serving, serving
from tests.support.proxy import counting

OLD = "0.3.17"  # protocol 3.6.1
# The matrices of the feed-forward network and the output have 11 MiB each.
SHAPE = Shape(n_layer=1, n_embd=1024, n_ff=2816, n_vocab=2900)
OVERHEAD = 1 << 20  # graphs and other messages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    write_model(folder / "model.gguf", GGMLType.F32, SHAPE)
    return folder / "model.gguf"


@cache
def reference(version: str, model: Path) -> tuple[list[int], np.ndarray]:
    return generate(version, model, model.with_suffix(f".{version}.npy"), 2, "local")


def sent(version: str, model: Path, tmp: Path, *flags: str, wait: str = "") -> int:
    """The number of bytes that a client sends to load a model on a server."""
    with serving(*flags) as served:
        if wait:
            served.wait_for_line(wait, 60)
        with counting(served.endpoint) as proxy:
            result = generate(version, model, tmp / "out.npy", 2, proxy.endpoint)
    tokens, logits = reference(version, model)
    assert result[0] == tokens
    assert nmse(result[1], logits) < 1e-6
    return proxy.sent


def small(model: Path) -> int:
    """The total size in bytes of the tensors that clients never request by hash."""
    return sum(tensor.size for tensor in tensors_of(model) if tensor.size <= THRESHOLD)


@pytest.mark.parametrize("version", [NEWEST, OLD])
def test_second_load_after_a_restart_sends_no_large_tensor(
    version: str, model: Path, tmp_path: Path
) -> None:
    peer_python(version)
    flags = "--cache-dir", str(tmp_path / "cache")
    assert sent(version, model, tmp_path, *flags) > small(model) + 4 * THRESHOLD
    assert sent(version, model, tmp_path, *flags) < small(model) + OVERHEAD


@pytest.mark.parametrize("version", [NEWEST, OLD])
def test_cache_of_the_native_server_is_used_except_damaged_entries(
    version: str, model: Path, tmp_path: Path
) -> None:
    with native_serving(version, "--cache", str(tmp_path)) as native:
        generate(version, model, tmp_path / "out.npy", 0, native)
    entries = sorted(tmp_path.glob("[0-9a-f]" * 16))
    assert len(entries) == 5 - 1  # the embeddings stay on the client
    with entries[1].open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    count = sent(version, model, tmp_path, "--cache-dir", str(tmp_path)) - small(model)
    assert THRESHOLD < count < 2 * THRESHOLD


@pytest.mark.parametrize("version", [NEWEST, OLD])
def test_first_load_of_a_model_on_disk_sends_no_large_tensor(
    version: str, model: Path, tmp_path: Path
) -> None:
    peer_python(version)
    flags = "--cache-dir", str(tmp_path / "cache"), "--models", str(model.parent)
    indexed = "5 tensors need not be sent"
    assert sent(version, model, tmp_path, *flags, wait=indexed) < (
        small(model) + OVERHEAD
    )
