"""Every op's cases on the cpu device and on ggml, side by side."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.client import Client, connect
from ggrpc.errors import ConnectionLost
from tests.support import cases
from tests.support.case import Case, run_case
from tests.support.oracle import run_case_on
from tests.support.processes import native_serving, nmse

FLOAT_LIMIT = 1e-7
QUANTIZED_LIMIT = 5e-4  # ggml rounds the other operand to 8 bits


@pytest.fixture(scope="module")
def device() -> CpuDevice:
    return CpuDevice(threads=2)


class Native:
    """llama.cpp's own server; a new one where a case made it abort."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._server = native_serving("0.3.36", "--threads", "2")
        self.client: Client = connect(self._server.__enter__(), timeout=60)

    def close(self) -> None:
        self.client.close()
        self._server.__exit__(None, None, None)

    def run(self, case: Case) -> dict[str, np.ndarray]:
        try:
            return run_case_on(self.client, case)
        except ConnectionLost:
            self.close()
            self._open()
            raise


@pytest.fixture(scope="module")
def native():  # type: ignore[no-untyped-def]
    native = Native()
    yield native
    native.close()


@pytest.mark.parametrize("case", [pytest.param(c, id=n) for n, c in cases.every()])
def test_cpu_agrees_with_ggml(device: CpuDevice, native: Native, case: Case) -> None:
    ours, theirs = run_case(device, case), native.run(case)
    assert ours.keys() == theirs.keys()
    quantized = any(t.type.is_quantized for t in case.tensors)
    limit = case.limit or (QUANTIZED_LIMIT if quantized else FLOAT_LIMIT)
    for name, expected in theirs.items():
        if expected.dtype.kind in "iu":
            assert np.array_equal(ours[name], expected), name
        elif expected.size:
            finite = np.isfinite(expected)
            assert np.array_equal(finite, np.isfinite(ours[name])), name
            assert nmse(ours[name][finite], expected[finite]) < limit, name
