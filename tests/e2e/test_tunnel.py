"""llama.cpp's client, which does not support TLS, on a server that requires it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ggrpc.types import GGMLType
from tests.support.certificates import make_certificates
from tests.support.models import write_architecture
from tests.support.paths import NEWEST
from tests.support.processes import generate, serving, tunnel_to


def test_native_client_generates_through_a_tunnel(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    model = tmp_path / "model.gguf"
    write_architecture(model, "llama", GGMLType.Q8_0)
    flags = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    with (
        serving("-d", "cpu", "-t", "1", *flags) as served,
        tunnel_to(served.endpoint, files) as (_, plain),
    ):
        tokens, logits = generate(NEWEST, model, tmp_path / "far.npy", 8, plain)
    with serving("-d", "cpu", "-t", "1") as served:
        same = generate(NEWEST, model, tmp_path / "near.npy", 8, served.endpoint)
    assert tokens == same[0]
    assert np.array_equal(logits, same[1])
