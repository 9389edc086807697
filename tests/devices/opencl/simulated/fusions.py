"""The patterns of nodes that one launch computes together."""

from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import OpenClDevice
from tests.devices.opencl.fusions.patterns import PATTERNS
from tests.devices.opencl.fusions.test_shared_memory import case_of
from tests.devices.test_against_ggml import compare
from tests.support.case import run_case


@pytest.mark.parametrize("pattern", PATTERNS)
def test_fusions(gpu: OpenClDevice, pattern: str) -> None:
    case = case_of(pattern)
    with CpuDevice(threads=1) as cpu:
        compare(run_case(gpu, case), run_case(cpu, case), case)
