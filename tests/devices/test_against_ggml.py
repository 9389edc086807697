"""The cases of every op on ggrpc's devices, compared with ggml."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.kernel_table import CPU, KERNELS, is_supported
from ggrpc.engine.client.client import Client, connect
from ggrpc.errors import ConnectionLost
from ggrpc.formats.nmse import nmse
from tests.support.case import Case, run_case
from tests.support.cases import all_cases
from tests.support.oracle import run_case_on
from tests.support.paths import NEWEST
from tests.support.processes import native_serving

FLOAT_LIMIT = 1e-7
QUANTIZED_LIMIT = 5e-4  # ggml rounds the other operand to 8 bits


class Native:
    """llama.cpp's own server; restarted if a case made it abort."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, np.ndarray]] = {}
        self._open()

    def _open(self) -> None:
        self._server = native_serving(NEWEST, "--threads", "2")
        self.client: Client = connect(self._server.__enter__(), timeout=60)

    def close(self) -> None:
        self.client.close()
        self._server.__exit__(None, None, None)

    def run(self, name: str, case: Case) -> dict[str, np.ndarray]:
        """The result of ggml, computed once for all devices."""
        if name not in self._known:
            try:
                self._known[name] = run_case_on(self.client, case)
            except ConnectionLost:
                self.close()
                self._open()
                raise
        return self._known[name]


@pytest.fixture(scope="module")
def native():  # type: ignore[no-untyped-def]
    native = Native()
    yield native
    native.close()


def has_kernel(case: Case) -> bool:
    nodes = case.graph().nodes
    return any((n.tensor.op, CPU) in KERNELS and is_supported(n, CPU) for n in nodes)


CASES = [pytest.param(name, case, id=name) for name, case in all_cases().items()]
FOR_OPENCL = [pytest.param(n, c, id=n) for n, c in all_cases().items() if has_kernel(c)]


@pytest.fixture(scope="module")
def cpu_device() -> CpuDevice:
    return CpuDevice(threads=2)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_cpu_agrees_with_ggml(
    cpu_device: CpuDevice, native: Native, name: str, case: Case
) -> None:
    compare(run_case(cpu_device, case), native.run(name, case), case)


@pytest.mark.parametrize(("name", "case"), FOR_OPENCL)
def test_opencl_agrees_with_ggml(
    opencl: OpenClDevice, native: Native, name: str, case: Case
) -> None:
    compare(run_case(opencl, case), native.run(name, case), case)


def compare(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], case: Case
) -> None:
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
