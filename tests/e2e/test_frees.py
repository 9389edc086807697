"""llama.cpp's client frees a model and an adapter while another model is in use."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.random_model import SMALL, write_model
from ggrpc.types import GGMLType
from tests.support.generations import assert_same_generation
from tests.support.paths import NEWEST, ROOT
from tests.support.processes import generate, serving

SCRIPT = ROOT / "tests/support/llama_frees.py"
RANK = 8


def write_adapter(path: Path) -> None:
    """Write an adapter for the first query projection of a `SMALL` model."""
    rng, n_embd = np.random.default_rng(3), SMALL.n_embd
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, RANK)
    for half, shape in (("a", (RANK, n_embd)), ("b", (n_embd, RANK))):
        values = rng.standard_normal(shape, np.float32) / np.float32(4)
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{half}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("version", "protocol"), [(NEWEST, "8"), ("0.3.36", "7")])
def test_native_client_decodes_after_it_frees_another_model(
    tmp_path: Path, version: str, protocol: str
) -> None:
    path = write_model(tmp_path / "model.gguf", GGMLType.F16, SMALL)
    write_adapter(tmp_path / "model.gguf.lora")
    with serving("-d", "cpu", "--protocol", protocol) as served:
        local, remote = (
            generate(version, path, tmp_path / "out.npy", 4, endpoint, script=SCRIPT)
            for endpoint in ("local", served.endpoint)
        )
    assert_same_generation(remote, local, 1e-6)
